"""The .proto files match the committed stubs and the public client's definitions."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import FileDescriptor

from pixelserve.oip import inference_pb2, model_config_pb2

ROOT = Path(__file__).resolve().parent.parent.parent
OURS_ALONE = {
    # In the public protocol, but not in Triton.
    "ModelMetadataResponse.properties",
    "ModelMetadataResponse.PropertiesEntry",
}

# Runs where tritonclient is installed; prints its definitions as serialized FileDescriptorProtos in hex.
DUMP = """
import json
from tritonclient.grpc import model_config_pb2, service_pb2
print(json.dumps([module.DESCRIPTOR.serialized_pb.hex() for module in (service_pb2, model_config_pb2)]))
"""


def environment(name: str) -> str:
    """Returns the Python of an environment that `make test` makes."""
    python = Path(sys.prefix) / name / "bin" / "python"
    assert python.exists(), f"there is no {python}; run `make test`, which makes it"
    return str(python)


@pytest.mark.slow
def test_the_stubs_are_what_the_proto_files_generate(tmp_path: Path) -> None:
    protoc = [environment("proto"), "-m", "grpc_tools.protoc", f"-I{ROOT / 'proto'}"]
    messages = [str(path) for path in sorted((ROOT / "proto" / "pixelserve").rglob("*.proto"))]
    services = [path for path in messages if "\nservice " in Path(path).read_text()]
    subprocess.run([*protoc, f"--python_out={tmp_path}", f"--pyi_out={tmp_path}", *messages], check=True)
    subprocess.run([*protoc, f"--grpc_python_out={tmp_path}", *services], check=True)
    generated = {path.relative_to(tmp_path): path.read_text() for path in tmp_path.rglob("*_pb2*")}
    committed = {
        path.relative_to(ROOT): path.read_text()
        for path in (ROOT / "pixelserve").rglob("*_pb2*")
        if path.suffix in {".py", ".pyi"}
    }
    assert generated == committed, "run `make proto`"


def facts(files: list[descriptor_pb2.FileDescriptorProto]) -> dict[str, tuple[object, ...]]:
    """Returns the wire's definitions by qualified name: fields, enum values and methods."""
    found: dict[str, tuple[object, ...]] = {}

    def add_message(prefix: str, message: descriptor_pb2.DescriptorProto) -> None:
        name = f"{prefix}{message.name}"
        for field in message.field:
            found[f"{name}.{field.name}"] = (field.number, field.type, field.label, field.type_name)
        for nested in message.nested_type:
            add_message(f"{name}.", nested)
        for enum in message.enum_type:
            add_enum(f"{name}.", enum)

    def add_enum(prefix: str, enum: descriptor_pb2.EnumDescriptorProto) -> None:
        for value in enum.value:
            found[f"{prefix}{enum.name}.{value.name}"] = (value.number,)

    for file in files:
        for message in file.message_type:
            add_message("", message)
        for enum in file.enum_type:
            add_enum("", enum)
        for service in file.service:
            for method in service.method:
                streaming = (method.client_streaming, method.server_streaming)
                found[f"{service.name}/{method.name}"] = (method.input_type, method.output_type, *streaming)
    return found


def own_file(descriptor: FileDescriptor) -> descriptor_pb2.FileDescriptorProto:
    return descriptor_pb2.FileDescriptorProto.FromString(descriptor.serialized_pb)


@pytest.mark.slow
def test_names_numbers_and_types_are_tritonclients() -> None:
    dump = subprocess.run([environment("tritonclient"), "-c", DUMP], check=True, capture_output=True, text=True)
    theirs = facts([descriptor_pb2.FileDescriptorProto.FromString(bytes.fromhex(h)) for h in json.loads(dump.stdout)])
    ours = facts([own_file(inference_pb2.DESCRIPTOR), own_file(model_config_pb2.DESCRIPTOR)])
    ours = {name: fact for name, fact in ours.items() if not any(name.startswith(own) for own in OURS_ALONE)}
    assert len(theirs) > 300
    assert ours == theirs
