"""Every optimisation of the server can be switched off without changing answers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from pixelserve.oip import inference_pb2 as pb

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("transport", ["h2corn"], indirect=True, scope="module")]

METHOD = "/inference.GRPCInferenceService/ModelInfer"
REQUESTS = 200
ALONE = 40
IN_FLIGHT = 32
TIMEOUT_S = 30

Outcome = tuple[grpc.StatusCode, str, pb.ModelInferResponse | None]


@pytest.fixture(scope="module")
def repository(
    tmp_path_factory: pytest.TempPathFactory,
    model_writer: Callable[..., Path],
    graph_writer: Callable[..., Path],
    root: Path,
) -> Path:
    """A real network, and models of floats, of two inputs, and of strings, which batch."""
    path = tmp_path_factory.mktemp("repository")
    (path / "mnist-cnn").symlink_to(root / "models" / "mnist-cnn")
    model_writer(path / "doubler" / "1" / "model.onnx")
    a, b = ("INT64", ["N"]), ("FLOAT", ["N", 2])
    nodes = (("Neg", "a", "minus_a"), ("Neg", "b", "minus_b"))
    graph_writer(path / "pair" / "1" / "model.onnx", {"a": a, "b": b}, {"minus_a": a, "minus_b": b}, *nodes)
    words = ("STRING", ["N", 1])
    graph_writer(path / "words" / "1" / "model.onnx", {"x": words}, {"y": words}, ("Identity", "x", "y"))
    return path


def request(model: str, request_id: str, *inputs: tuple[str, str, Any], **fields: Any) -> pb.ModelInferRequest:
    message = pb.ModelInferRequest(model_name=model, id=request_id, **fields)
    for name, datatype, array in inputs:
        message.inputs.add(name=name, datatype=datatype, shape=array.shape)
        if datatype == "BYTES":
            message.raw_input_contents.append(b"".join(len(each).to_bytes(4, "little") + each for each in array.flat))
        else:
            message.raw_input_contents.append(array.tobytes())
    return message


CLASSES = pb.ModelInferRequest.InferRequestedOutputTensor(name="doubled")
CLASSES.parameters["classification"].int64_param = 2
KINDS = ["network"] * 8 + ["floats"] * 4 + ["classes", "pair", "words"] * 2 + ["too large", "wrong type", "no version"]


def make_request(kind: str, number: int, random: np.random.Generator) -> pb.ModelInferRequest:
    rows = int(random.choice([1, 1, 1, 2, 3, 8, 64]))
    # So heads repeat, with different ids and contents.
    request_id = ("", str(number), "größe")[number % 7 % 3]
    floats = random.normal(size=(rows, 4)).astype(np.float32)
    match kind:
        case "floats":
            return request("doubler", request_id, ("values", "FP32", floats))
        case "classes":
            return request("doubler", request_id, ("values", "FP32", floats), outputs=[CLASSES])
        case "pair":
            numbers = random.integers(-9, 9, rows)
            return request("pair", request_id, ("a", "INT64", numbers), ("b", "FP32", floats[:, :2]))
        case "words":
            return request("words", request_id, ("x", "BYTES", np.array([[b"a" * (number % 9)]] * rows, object)))
        case "too large":
            return request("doubler", request_id, ("values", "FP32", np.zeros((65, 4), np.float32)))
        case "wrong type":
            return request("doubler", request_id, ("values", "FP64", np.zeros((1, 4))))
    images = random.integers(0, 256, (rows, 28, 28, 1), np.uint8)
    version = "9" if kind == "no version" else ""
    return request("mnist-cnn", request_id, ("image", "UINT8", images), model_version=version)


def mixed_requests() -> list[bytes]:
    """Returns requests of many kinds, sizes and ids, some of them wrong, the same ones every time."""
    random = np.random.default_rng(5)
    kinds = random.choice(KINDS, REQUESTS)
    return [make_request(str(kind), number, random).SerializeToString() for number, kind in enumerate(kinds)]


def outcomes(address: str, messages: list[bytes]) -> list[Outcome]:
    """Sends requests, the first ones one by one and the others many at once, and returns how each ended."""
    ended: list[Outcome] = []
    parts = [messages[number : number + 1] for number in range(ALONE)]
    parts += [messages[start : start + IN_FLIGHT] for start in range(ALONE, len(messages), IN_FLIGHT)]
    with grpc.insecure_channel(address) as channel:
        infer = channel.unary_unary(METHOD, response_deserializer=pb.ModelInferResponse.FromString)
        for part in parts:
            calls = [infer.future(message, timeout=TIMEOUT_S) for message in part]
            for call in calls:
                is_good = call.exception() is None
                ended.append((call.code(), call.details() or "", call.result() if is_good else None))
    return ended


def probabilities(outcome: Outcome) -> tuple[Outcome, Any]:
    """Takes what may differ by rounding, with the size of its batch, out of an outcome of the network."""
    code, details, response = outcome
    if response is None or response.model_name != "mnist-cnn":
        return outcome, np.zeros(0)
    rest = pb.ModelInferResponse()
    rest.CopyFrom(response)
    raw = rest.raw_output_contents.pop()
    return (code, details, rest), np.frombuffer(raw, np.float32)


@pytest.fixture(scope="module")
def with_everything_on(start_module_server: Any, repository: Path) -> list[Outcome]:
    """How the requests end on a server as it ships."""
    return outcomes(start_module_server(repository).grpc, mixed_requests())


def test_the_requests_are_of_many_kinds(with_everything_on: list[Outcome]) -> None:
    codes = [code.name for code, _, _ in with_everything_on]
    assert {codes.count(name) > 0 for name in ("OK", "INVALID_ARGUMENT", "NOT_FOUND")} == {True}
    models = {response.model_name for _, _, response in with_everything_on if response is not None}
    assert models == {"mnist-cnn", "doubler", "pair", "words"}


@pytest.mark.parametrize(
    "flags",
    [
        pytest.param("--no-limit-batches", id="batches as large as they may be"),
        pytest.param("--batch-buckets powers", id="padded batches"),
        pytest.param("--batch-buckets 7", id="batches padded to odd sizes"),
        pytest.param("--no-run-on-arrival", id="no run on the arriving thread"),
        pytest.param("--transport grpcio", id="grpcio"),
    ],
)
def test_a_feature_that_is_off_changes_no_answer(
    start_server: Any, repository: Path, with_everything_on: list[Outcome], flags: str
) -> None:
    server = start_server(repository, *flags.split())
    without = outcomes(server.grpc, mixed_requests())
    assert len(without) == len(with_everything_on) == REQUESTS
    for number, (got, expected) in enumerate(zip(without, with_everything_on, strict=True)):
        (got_rest, got_values), (expected_rest, expected_values) = probabilities(got), probabilities(expected)
        assert got_rest == expected_rest, number
        np.testing.assert_allclose(got_values, expected_values, rtol=0, atol=1e-6)
