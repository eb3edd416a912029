"""Every method of the three gRPC services, and its streams: messages straight to the dispatcher."""

import struct
import threading
from typing import Any

from google.protobuf.message import Message
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from pixelserve.oip import inference_pb2 as pb
from pixelserve.v1 import classifier_pb2

from . import messages
from .mutate import Mutator
from .pictures import picture_files
from .server import ANSWER_S, FuzzedCall, InProcessServer, fault_of, infer_requests
from .target import Target

INFERENCE = "/inference.GRPCInferenceService/"
CLASSIFIER = "/pixelserve.v1.Classifier/"
_COMPUTE = ("ModelInfer", "Classify")
_CHANGES = ("RepositoryModelLoad", "RepositoryModelUnload")


def _named(kind: Any) -> list[Message]:
    return [kind(name="doubler"), kind(name="mnist-cnn", version="1")]


def _loads() -> list[Message]:
    plain = pb.RepositoryModelLoadRequest(model_name="doubler")
    overlay = pb.RepositoryModelLoadRequest(model_name="text")
    overlay.parameters["config"].string_param = '{"max_batch_size": 8, "input": [{"name": "text", "dims": [1]}]}'
    overlay.parameters["file:1/model.onnx"].bytes_param = b"no model"
    return [plain, overlay]


def _settings(kind: Any, **values: Any) -> list[Message]:
    asked = kind()
    for name, value in values.items():
        if isinstance(value, list):
            asked.settings[name].value.extend(value)
        elif isinstance(value, bool):
            asked.settings[name].bool_param = value
        else:
            asked.settings[name].string_param = value
    return [kind(), asked]


def _classify() -> list[Message]:
    files = list(picture_files().values())
    encoded = classifier_pb2.ClassifyRequest(model="mnist-cnn", top_k=3)
    for data in files[:3]:
        encoded.images.add(encoded=data)
    raw = classifier_pb2.ClassifyRequest(model="mnist-cnn", version="1", inversion=classifier_pb2.INVERSION_AUTO)
    raw.images.add().raw.CopyFrom(classifier_pb2.RawPixels(height=2, width=2, channels=3, data=bytes(12)))
    single = [classifier_pb2.ClassifyRequest(model="mnist-cnn") for _ in files]
    for request, data in zip(single, files, strict=True):
        request.images.add(encoded=data)
    return [encoded, raw, *single]


def seeds() -> dict[str, list[Message]]:
    """Returns good messages, by their methods' full names."""
    found: dict[str, list[Message]] = {
        INFERENCE + "ModelInfer": list(infer_requests()),
        CLASSIFIER + "Classify": _classify(),
        CLASSIFIER + "ListModels": [classifier_pb2.ListModelsRequest(name="doubler")],
        INFERENCE + "RepositoryModelLoad": _loads(),
        INFERENCE + "RepositoryModelUnload": [pb.RepositoryModelUnloadRequest(model_name="text")],
        INFERENCE + "TraceSetting": _settings(pb.TraceSettingRequest, trace_level=["OFF"], trace_rate=["1"]),
        INFERENCE + "LogSettings": _settings(pb.LogSettingsRequest, log_info=True, log_format="default"),
        INFERENCE + "SystemSharedMemoryRegister": [
            pb.SystemSharedMemoryRegisterRequest(name="region", key="/fuzz-region", byte_size=64)
        ],
        INFERENCE + "CudaSharedMemoryRegister": [
            pb.CudaSharedMemoryRegisterRequest(name="region", raw_handle=b"handle", byte_size=64)
        ],
    }
    for method in pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods:
        if method.client_streaming or INFERENCE + method.name in found:
            continue
        kind: Any = getattr(pb, method.input_type.name)
        fields = {field.name for field in method.input_type.fields}
        found[INFERENCE + method.name] = _named(kind) if {"name", "version"} <= fields else [kind()]
    return found


class CallTarget(Target):
    """One unary method."""

    growth_mib = 400

    def __init__(self, server: InProcessServer, method: str, seeds: list[Message]) -> None:
        self.name = f"grpc-{method.rpartition('/')[2]}"
        self._server = server
        self._method = method
        self._seeds = seeds
        # Most of what can go wrong is in requests that compute something.
        self.every = 1 if method.endswith(_COMPUTE) else 20 if method.endswith(_CHANGES) else 4

    def make(self, mutator: Mutator) -> bytes:
        return messages.serialized(mutator, self._seeds)

    def run(self, data: bytes) -> str:
        fault = self._server.call(self._method, data).fault()
        if self._method.endswith(_CHANGES):
            self._server.restore()
        if self._method.endswith("SharedMemoryUnregister"):
            self._server.register()
        return fault or self._server.logged()


class GroupTarget(CallTarget):
    """Calls of a method that arrive together; one message after the other, each with gRPC's prefix."""

    def __init__(self, server: InProcessServer, method: str, seeds: list[Message]) -> None:
        super().__init__(server, method, seeds)
        self.name = f"grpc-{method.rpartition('/')[2]}-together"

    def make(self, mutator: Mutator) -> bytes:
        return framed([super(GroupTarget, self).make(mutator) for _ in range(mutator.random.randint(2, 6))])

    def run(self, data: bytes) -> str:
        calls = [(self._method, message, FuzzedCall()) for message in unframed(data)]
        self._server.services.dispatcher.handle_all(calls)
        faults = [call.fault() for _, _, call in calls]
        return "; ".join(filter(None, faults)) or self._server.logged()


class StreamTarget(Target):
    """A method with streams; one message after the other, each with gRPC's prefix."""

    growth_mib = 400

    def __init__(self, server: InProcessServer, method: str, seeds: list[Message]) -> None:
        self.name = f"stream-{method.rpartition('/')[2]}"
        self._streamed = server.services.streamed[method]
        self._server = server
        self._seeds = seeds

    def make(self, mutator: Mutator) -> bytes:
        return framed([messages.serialized(mutator, self._seeds) for _ in range(mutator.random.randint(1, 6))])

    def run(self, data: bytes) -> str:
        changed = threading.Condition()

        def on_change() -> None:
            with changed:
                changed.notify_all()

        stream = self._streamed.open(None, on_change=on_change)
        answers: list[bytes] = []
        sent = list(unframed(data))
        for message in sent:
            stream.take(message)
        stream.finish()
        # Health's Watch continues until the client ends it.
        is_endless = self.name.endswith("Watch")
        with changed:
            while not stream.is_over and not (is_endless and answers):
                if not changed.wait_for(lambda: stream.has_answer or stream.is_over, ANSWER_S):
                    return f"no answer within {ANSWER_S} s"
                while (answer := stream.next_answer()) is not None:
                    answers.append(answer)
                    stream.written()
        stream.close()
        internal = next((a for a in answers if b"INTERNAL: " in a or b"internal error" in a), b"")
        return fault_of(stream.status) or internal.decode(errors="replace") or self._server.logged()


def framed(sent: list[bytes]) -> bytes:
    """Returns messages one after the other, each with gRPC's prefix."""
    return b"".join(struct.pack(">BI", 0, len(message)) + message for message in sent)


def unframed(data: bytes) -> list[bytes]:
    """Returns the messages of `framed`."""
    found, at = [], 0
    while at + 5 <= len(data):
        size = struct.unpack_from(">I", data, at + 1)[0]
        found.append(data[at + 5 : at + 5 + size])
        at += 5 + size
    return found


def call_targets(server: InProcessServer) -> list[Target]:
    """Returns a target for each method."""
    found: list[Target] = [CallTarget(server, method, good) for method, good in seeds().items()]
    infer, classify = INFERENCE + "ModelInfer", CLASSIFIER + "Classify"
    found += [GroupTarget(server, method, seeds()[method]) for method in (infer, classify)]
    checks: list[Message] = [health_pb2.HealthCheckRequest(), health_pb2.HealthCheckRequest(service="mnist-cnn")]
    found.append(CallTarget(server, "/grpc.health.v1.Health/Check", checks))
    reflected: list[Message] = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="pixelserve.v1.Classifier"),
        reflection_pb2.ServerReflectionRequest(file_by_filename="pixelserve/v1/classifier.proto"),
    ]
    good: dict[str, list[Message]] = {INFERENCE + "ModelStreamInfer": list(infer_requests())}
    for method in server.services.streamed:
        kind = checks if "Health" in method else reflected
        found.append(StreamTarget(server, method, good.get(method, kind)))
    return found
