"""Start-up errors: an exit code, one sentence with the cause and the remedy, no traceback."""

import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from pixelserve.card import Card, Parity, sha256_of
from pixelserve.golden import Golden, write_golden
from pixelserve.oip import inference_pb2 as pb

# Each starts a process.
pytestmark = pytest.mark.slow

Fail = Callable[..., Any]
VALUES = np.ones((2, 4), dtype=np.float32)


def version_path(repository: Path) -> Path:
    return repository / "doubler" / "1"


def configure(repository: Path, text: str) -> None:
    (repository / "doubler" / "config.pbtxt").write_text(text)


def add_card(repository: Path, *, sha256: str = "") -> None:
    """Gives the doubler a card and golden samples that hold, unless another hash is given."""
    version = version_path(repository)
    Card(
        name="doubler",
        task="tabular",
        sha256=sha256 or sha256_of(version / "model.onnx"),
        created="2026-01-02T03:04:05Z",
        parity=[Parity(precision="float32", provider="CPUExecutionProvider", tolerance=1e-5)],
    ).write(version / "card.json")
    write_golden(version / "golden.npz", Golden({"values": VALUES}, {"doubled": VALUES * 2}))


def break_golden(repository: Path) -> None:
    add_card(repository)
    write_golden(version_path(repository) / "golden.npz", Golden({"values": VALUES}, {"doubled": VALUES * 3}))


def remove_version(repository: Path) -> None:
    (version_path(repository) / "model.onnx").unlink()
    version_path(repository).rmdir()


def label(repository: Path, *labels: str) -> None:
    configure(
        repository,
        'max_batch_size: 8\noutput { name: "doubled" data_type: TYPE_FP32 dims: 4 label_filename: "labels.txt" }',
    )
    (repository / "doubler" / "labels.txt").write_text("\n".join(labels))


# Damage to a repository with one good model, and the expected error; {repository} is its path.
SPOILT: dict[str, tuple[Callable[[Path], object], str]] = {
    "a model folder without version": (
        remove_version,
        r"{repository} holds no model; .*doubler holds no version folder",
    ),
    "a missing model file": (
        lambda path: (version_path(path) / "model.onnx").unlink(),
        r"{repository}/doubler/1/model\.onnx: no such file; a version folder must hold the model",
    ),
    "a corrupt model file": (
        lambda path: (version_path(path) / "model.onnx").write_bytes(b"\x08\x08garbage"),
        r"{repository}/doubler/1/model\.onnx: ONNX Runtime .* cannot load it \(.*\); .*copy or export it again",
    ),
    "a config.pbtxt that does not parse": (
        lambda path: configure(path, 'name: "doubler"\nmax_batch: 8\n'),
        r"{repository}/doubler/config\.pbtxt:2: `max_batch: 8`: ModelConfig has no max_batch; write: max_batch_size: 8",
    ),
    "a config.pbtxt that contradicts the model": (
        lambda path: configure(path, 'max_batch_size: 8 input { name: "values" data_type: TYPE_FP32 dims: 5 }'),
        r"{repository}/doubler/config\.pbtxt:1: dims of values are \[5\], the model's are \[4\]",
    ),
    "a config.pbtxt of another backend": (
        lambda path: configure(path, 'backend: "python"'),
        r'{repository}/doubler/config\.pbtxt:1: "python" is not served; only backend: "onnxruntime"',
    ),
    "a label file of the wrong length": (
        lambda path: label(path, "cat", "dog"),
        r"{repository}/doubler/labels\.txt: 2 labels; doubled has 4 classes, one label a line each",
    ),
    "a missing label file": (
        lambda path: (label(path), (path / "doubler" / "labels.txt").unlink()),
        r"{repository}/doubler/labels\.txt: cannot be read.*expected one class label a line",
    ),
    "a card that is not JSON": (
        lambda path: (add_card(path), (version_path(path) / "card.json").write_text("name: doubler")),
        r"{repository}/doubler/1/card\.json: the whole file: .*; export the model again, or remove the card",
    ),
    "a card of another file": (
        lambda path: add_card(path, sha256="00" * 32),
        r"{repository}/doubler/1/model\.onnx: SHA-256 is .* its card says 0{{12}}.*: copy the version again",
    ),
    "golden samples that are not reproduced": (
        break_golden,
        r"{repository}/doubler/1/golden\.npz: golden outputs differ by up to 1, the tolerance is 1e-05: .*export it",
    ),
    "damaged golden samples": (
        lambda path: (add_card(path), (version_path(path) / "golden.npz").write_bytes(b"PK\x03\x04")),
        r"{repository}/doubler/1/golden\.npz: cannot be read as golden samples: .*export the model again",
    ),
}


def check(failure: Any, said: str, **paths: Path) -> None:
    """Checks that a start failed with exit code 1 and one sentence."""
    expected = said.format(**{name: re.escape(str(path)) for name, path in paths.items()})
    assert failure.code == 1, failure.message
    assert failure.message.startswith("pixelserve: ")
    assert re.search(expected, failure.message), failure.message


@pytest.mark.parametrize(("spoil", "said"), SPOILT.values(), ids=SPOILT)
def test_a_model_that_cannot_be_served_ends_the_start(
    doubler_repository: Path, failing_serve: Fail, spoil: Callable[[Path], object], said: str
) -> None:
    spoil(doubler_repository)
    check(failing_serve("--model-repository", str(doubler_repository)), said, repository=doubler_repository)


def test_a_missing_repository_ends_the_start(tmp_path: Path, failing_serve: Fail) -> None:
    failure = failing_serve("--model-repository", str(tmp_path / "models"))
    check(failure, "model repository {path}: No such file or directory; .*--model-repository", path=tmp_path / "models")


def test_a_file_in_place_of_the_repository_ends_the_start(tmp_path: Path, failing_serve: Fail) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"")
    failure = failing_serve("--model-repository", str(path))
    check(failure, "model repository {path}: Not a directory; give a folder that holds", path=path)


def test_an_empty_repository_ends_the_start(tmp_path: Path, failing_serve: Fail) -> None:
    failure = failing_serve("--model-repository", str(tmp_path))
    check(failure, "model repository {path} holds no model; expected <model>/<version>/model.onnx", path=tmp_path)


def test_a_version_without_a_card_ends_the_start_where_one_is_required(
    doubler_repository: Path, failing_serve: Fail
) -> None:
    failure = failing_serve("--model-repository", str(doubler_repository), "--require-card")
    check(failure, r"{path}/doubler/1: no card\.json, and --require-card is on; export", path=doubler_repository)


@pytest.mark.parametrize("port", ["grpc", "metrics"])
def test_a_port_in_use_ends_the_start(doubler_repository: Path, failing_serve: Fail, port: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        failure = failing_serve("--model-repository", str(doubler_repository), f"--{port}-port", str(number))
    check(failure, rf"cannot listen on 127\.0\.0\.1:{number} for .*in use.*--{port}-port \(0: a free one\)")


def test_the_port_of_another_server_ends_the_start(
    doubler_repository: Path, start_server: Callable[..., Any], failing_serve: Fail
) -> None:
    """Two servers on one port would share its calls at random."""
    port = start_server(doubler_repository).grpc.rpartition(":")[2]
    failure = failing_serve("--model-repository", str(doubler_repository), "--grpc-port", port)
    check(failure, rf"cannot listen on 127\.0\.0\.1:{port} for gRPC")


def test_a_host_that_is_not_this_machines_ends_the_start(doubler_repository: Path, failing_serve: Fail) -> None:
    failure = failing_serve("--model-repository", str(doubler_repository), "--host", "192.0.2.1", "--insecure")
    check(failure, r"cannot listen on 192\.0\.2\.1:0 for gRPC: .*--host")


def test_cuda_where_there_is_none_ends_the_start(doubler_repository: Path, failing_serve: Fail) -> None:
    if "CUDAExecutionProvider" in pytest.importorskip("onnxruntime").get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    failure = failing_serve("--model-repository", str(doubler_repository), "--device", "cuda")
    check(failure, r"--device cuda: .*no CUDA provider; .*pip install -e .\.\[server-cuda\].*--device auto")


def test_both_onnx_runtimes_end_the_start(tmp_path: Path, doubler_repository: Path, failing_serve: Fail) -> None:
    other = tmp_path / "site" / "onnxruntime_gpu-1.22.0.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: onnxruntime-gpu\nVersion: 1.22.0\n")
    failure = failing_serve("--model-repository", str(doubler_repository), env={"PYTHONPATH": str(other.parent)})
    check(failure, "both installed .*pip uninstall -y onnxruntime onnxruntime-gpu, then install one")


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        pytest.param([], 2, r"^pixelserve: --model-repository \(or PIXELSERVE_MODEL_REPOSITORY\) is missing$", id="no"),
        pytest.param(
            ["--model-repository", "models", "--grpc-port", "70000"],
            2,
            r"^pixelserve: --grpc-port \(or PIXELSERVE_GRPC_PORT\) is '70000': ",
            id="a bad value",
        ),
        pytest.param(["--grpc-prot", "1"], 2, "--grpc-prot", id="an unknown flag"),
    ],
)
def test_a_wrong_command_line_ends_the_start(failing_serve: Fail, args: list[str], code: int, said: str) -> None:
    failure = failing_serve(*args)
    assert failure.code == code
    assert re.search(said, failure.message), failure.message


def test_without_exit_on_error_the_others_are_served(
    doubler_repository: Path,
    model_writer: Callable[..., Path],
    start_server: Callable[..., Any],
    make_request: Callable[..., pb.ModelInferRequest],
) -> None:
    """Models: doubler is good; broken's file is damaged; half serves version 1, its version 2 is damaged."""
    for model, version in (("broken", "1"), ("half", "1"), ("half", "2")):
        model_writer(doubler_repository / model / version / "model.onnx")
    for damaged in ("broken/1", "half/2"):
        (doubler_repository / damaged / "model.onnx").write_bytes(b"damaged")
    (doubler_repository / "half" / "config.pbtxt").write_text("max_batch_size: 8 version_policy { all { } }")
    server = start_server(doubler_repository, "--no-exit-on-error")
    stub = server.stub()

    assert server.fields["models"] == ["doubler/1", "half/1"]
    assert not stub.ServerReady(pb.ServerReadyRequest()).ready
    for model, version, ready in (
        ("doubler", "", True),
        ("half", "", True),
        ("half", "2", False),
        ("broken", "", False),
    ):
        assert stub.ModelReady(pb.ModelReadyRequest(name=model, version=version)).ready is ready, (model, version)
    for model in ("doubler", "half"):
        assert stub.ModelInfer(make_request(model)).model_version == "1"

    for model, version, code in (
        ("half", "2", "UNAVAILABLE"),
        ("broken", "1", "UNAVAILABLE"),
        ("broken", "", "NOT_FOUND"),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            stub.ModelInfer(make_request(model, model_version=version))
        assert caught.value.code().name == code
        if version:
            reason = f"{doubler_repository / model / version / 'model.onnx'}: ONNX Runtime"
            assert f"version {version} of model {model} failed to load: {reason}" in caught.value.details()

    failures = {event["model"]: event["reason"] for event in server.events() if event["level"] == "error"}
    assert failures.keys() == {"broken", "half"}
    assert str(doubler_repository / "broken" / "1" / "model.onnx") in str(failures["broken"])


def test_a_server_that_requires_a_gpu_does_not_start_on_the_cpu(doubler_repository: Path, failing_serve: Fail) -> None:
    failure = failing_serve("--model-repository", str(doubler_repository), "--require-gpu", "--device", "cpu")
    assert failure.code == 1
    assert "--require-gpu and --device cpu contradict each other" in failure.message


@pytest.fixture
def lower_case(tmp_path: Path, graph_writer: Callable[..., Path]) -> Path:
    """A repository with a model that makes text lower case, as text models of scikit-learn do."""
    text = ("STRING", ["N"])
    path = tmp_path / "text" / "lower" / "1" / "model.onnx"
    nodes = (("StringNormalizer", "text", "lower"),)
    graph_writer(path, {"text": text}, {"lower": text}, *nodes, case_change_action="LOWER", locale="en_US.UTF-8")
    return tmp_path / "text"


def test_the_error_of_a_missing_locale_says_how_to_install_it(
    failing_serve: Fail, lower_case: Path, tmp_path: Path
) -> None:
    """glibc looks for locales in LOCPATH only where it is set; LANG makes no difference."""
    failure = failing_serve("--model-repository", str(lower_case), env={"LOCPATH": str(tmp_path), "LANG": "C.UTF-8"})
    assert failure.code == 1
    assert "needs the locale en_US.UTF-8, which this system lacks" in failure.message
    assert "localedef -i en_US -f UTF-8 en_US.UTF-8" in failure.message


def test_a_text_model_is_served_in_the_c_locale_where_its_own_is_installed(
    start_server: Callable[..., Any], lower_case: Path, tmp_path: Path
) -> None:
    """C.UTF-8 stands in for it: they change letters alike."""
    (locales := tmp_path / "locales").mkdir()
    (locales / "en_US.utf8").symlink_to("/usr/lib/locale/C.utf8")
    server = start_server(lower_case, env={"LOCPATH": str(locales), "LC_ALL": "C"})
    text = pb.ModelInferRequest.InferInputTensor(name="text", datatype="BYTES", shape=[1])
    text.contents.bytes_contents.append("Ärger".encode())
    answer = server.stub().ModelInfer(pb.ModelInferRequest(model_name="lower", inputs=[text]), timeout=30)
    assert answer.raw_output_contents[0][4:].decode() == "ärger"
