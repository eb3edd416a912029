"""Returned probabilities are probabilities: over gRPC, HTTP and in the metrics."""

import io
import json
import math
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from pixelserve.oip import inference_pb2
from pixelserve.scores import parameter
from pixelserve.v1 import classifier_pb2 as pb
from pixelserve.v1 import classifier_pb2_grpc

TIMEOUT_S = 30
PNG = {"Content-Type": "image/png"}
# White times the weights: 255 and -255 for the two classes.
WEIGHTS = np.array([[1.0, -1.0]], np.float32)


def write_model(repository: Path, name: str, weights: np.ndarray, last: str, config: str | None) -> None:
    """Writes a model of one pixel, uint8 [N, 1, 1, 1]: the pixel times the weights, and an operator on that."""
    columns = weights.shape[1]
    nodes = [
        helper.make_node("Cast", ["image"], ["pixel"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["pixel"], ["row"]),
        helper.make_node("MatMul", ["row", "weights"], ["product"]),
        helper.make_node(last, ["product"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", 1, 1, 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", columns])],
        [numpy_helper.from_array(weights, "weights")],
    )
    (repository / name / "1").mkdir(parents=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, repository / name / "1" / "model.onnx")
    if config is not None:
        (repository / name / "labels.txt").write_text("cat\ndog\n")
        output = f'output {{ name: "y" data_type: TYPE_FP32 dims: [ {columns} ] label_filename: "labels.txt" }}'
        (repository / name / "config.pbtxt").write_text(f"max_batch_size: 8\n{output}\n{config}\n")


@pytest.fixture(scope="module")
def kinds(start_module_server: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A server with a model for each thing that an output may be."""
    repository = tmp_path_factory.mktemp("repository")
    write_model(repository, "undeclared", WEIGHTS, "Identity", None)
    write_model(repository, "logits", WEIGHTS / 255, "Identity", parameter("logits"))
    write_model(repository, "softmax", WEIGHTS, "Softmax", "")
    write_model(repository, "single", WEIGHTS[:, :1] / 255, "Sigmoid", "")
    # A black pixel is 0, and 0 times infinity is NaN.
    write_model(repository, "broken", np.array([[np.inf, 1]], np.float32), "Identity", parameter("logits"))
    write_model(repository, "wrong", WEIGHTS, "Identity", parameter("probabilities"))
    return start_module_server(repository)


@pytest.fixture(scope="module")
def stub(kinds: Any) -> Iterator[classifier_pb2_grpc.ClassifierStub]:
    with grpc.insecure_channel(kinds.grpc) as channel:
        yield classifier_pb2_grpc.ClassifierStub(channel)


def picture(level: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (1, 1), level).save(file, "PNG")
    return file.getvalue()


def classify(stub: Any, model: str, *levels: int) -> pb.ClassifyResponse:
    images = [pb.Image(encoded=picture(level)) for level in levels]
    response: pb.ClassifyResponse = stub.Classify(
        pb.ClassifyRequest(model=model, top_k=9, images=images), timeout=TIMEOUT_S
    )
    return response


def numbers(result: pb.Result) -> list[tuple[str, str, float]]:
    return [
        (each.label, each.WhichOneof("number") or "", getattr(each, each.WhichOneof("number")))
        for each in result.classes
    ]


def test_what_is_not_declared_and_looks_like_none_is_a_score(kinds: Any, stub: Any, call_http: Any) -> None:
    response = classify(stub, "undeclared", 255)
    assert response.output_kind == "scores"
    assert numbers(response.results[0]) == [("0", "score", 255), ("1", "score", -255)]
    answer = call_http(kinds, "/v1/models/undeclared:classify?top_k=2", picture(255), PNG).json
    assert answer["output_kind"] == "scores"
    assert answer["results"][0]["classes"][0] == {"label": "0", "index": 0, "score": 255}


def test_logits_become_probabilities(kinds: Any, stub: Any, call_http: Any) -> None:
    response = classify(stub, "logits", 255, 0)
    assert response.output_kind == "logits"
    cat, dog = numbers(response.results[0])
    sure = 1 / (1 + math.exp(-2))
    assert cat == ("cat", "probability", pytest.approx(sure, rel=1e-5))
    assert dog == ("dog", "probability", pytest.approx(1 - sure, rel=1e-5))
    assert [number for _, _, number in numbers(response.results[1])] == [0.5, 0.5]
    best = call_http(kinds, "/v1/models/logits:classify", picture(255), PNG).json["results"][0]["classes"][0]
    assert best == {"label": "cat", "index": 0, "probability": pytest.approx(sure, rel=1e-5)}


def test_tensors_and_tritons_classes_stay_as_the_model_gives_them(kinds: Any) -> None:
    request = inference_pb2.ModelInferRequest(model_name="logits", raw_input_contents=[b"\xff"])
    request.inputs.add(name="image", datatype="UINT8", shape=[1, 1, 1, 1])
    answer = kinds.stub().ModelInfer(request, timeout=TIMEOUT_S)
    assert np.frombuffer(answer.raw_output_contents[0], np.float32).tolist() == [1, -1]
    request.outputs.add(name="y").parameters["classification"].int64_param = 1
    answer = kinds.stub().ModelInfer(request, timeout=TIMEOUT_S)
    assert answer.raw_output_contents[0][4:] == b"1.000000:0:cat"


def test_a_softmax_needs_no_declaration(stub: Any) -> None:
    response = classify(stub, "softmax", 255)
    assert (response.output_kind, numbers(response.results[0])[0]) == ("probabilities", ("cat", "probability", 1))


def test_one_unit_answers_both_of_its_classes(stub: Any) -> None:
    white, black = classify(stub, "single", 255, 0).results
    sure = 1 / (1 + math.exp(-1))
    assert numbers(white) == [
        ("dog", "probability", pytest.approx(sure, rel=1e-5)),
        ("cat", "probability", pytest.approx(1 - sure, rel=1e-5)),
    ]
    assert [number for _, _, number in numbers(black)] == [0.5, 0.5]


def test_a_picture_without_a_number_has_an_error_and_the_others_have_none(
    kinds: Any, stub: Any, call_http: Any
) -> None:
    black, white = classify(stub, "broken", 0, 255).results
    assert "NaN or infinity" in black.error
    assert (len(black.classes), "NaN or infinity" in white.error) == (0, True)
    answer = call_http(kinds, "/v1/models/broken:classify", picture(0), PNG)
    assert answer.status == 200
    (result,) = json.loads(answer.body, parse_constant=pytest.fail)["results"]
    assert list(result) == ["error"]


def test_a_wrong_declaration_shows_no_false_probability_and_is_logged_once(
    kinds: Any, stub: Any, eventually: Callable[..., None]
) -> None:
    # A black pixel gives 0 and 0, which could be.
    assert classify(stub, "wrong", 0).output_kind == "probabilities"
    for _ in range(2):
        response = classify(stub, "wrong", 255)
        assert (response.output_kind, numbers(response.results[0])[0]) == ("scores", ("cat", "score", 255))
    assert classify(stub, "wrong", 0).output_kind == "scores"

    def said() -> list[Any]:
        return [event for event in kinds.events() if event["event"] == "output kind" and event["model"] == "wrong"]

    eventually(said)
    assert len(said()) == 1
    assert "probabilities were declared" in said()[0]["reason"]


def test_a_models_description_has_its_output_kind(kinds: Any, stub: Any, call_http: Any) -> None:
    metadata = kinds.stub().ModelMetadata(inference_pb2.ModelMetadataRequest(name="logits"), timeout=TIMEOUT_S)
    assert metadata.properties["output_kind"] == "logits"
    assert metadata.properties["output_kind_reason"] == "as config.pbtxt says"
    assert call_http(kinds, "/v2/models/logits").json["properties"]["output_kind"] == "logits"
    listed = {each.name: each for each in stub.ListModels(pb.ListModelsRequest(), timeout=TIMEOUT_S).versions}
    assert (listed["softmax"].output_kind, listed["undeclared"].output_kind) == ("probabilities", "scores")
    assert "tried with" in listed["softmax"].output_kind_reason


def test_rows_without_a_number_are_counted(kinds: Any, stub: Any, eventually: Callable[..., None]) -> None:
    def count() -> float:
        with urllib.request.urlopen(kinds.metrics, timeout=TIMEOUT_S) as page:
            text = page.read().decode()
        name = 'pixelserve_predictions_not_finite_total{model="broken",version="1"}'
        (line,) = [line for line in text.splitlines() if line.startswith(name)]
        assert not [line for line in text.splitlines() if line.endswith("NaN")]
        return float(line.split()[-1])

    classify(stub, "broken", 0, 255, 7)
    # Counted behind the answer; whatever other tests sent is in it too, in threes or not.
    eventually(lambda: count() >= 3)
    before = count()
    classify(stub, "logits", 0, 255, 7)
    assert count() == before
