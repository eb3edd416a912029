"""The v2 protocol over HTTP against a real server process."""

import gzip
import json
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pixelserve
from pixelserve.oip import inference_pb2 as pb
from pixelserve.oip import inference_pb2_grpc

Call = Callable[..., Any]


@pytest.fixture(scope="module")
def repository(
    tmp_path_factory: pytest.TempPathFactory, model_writer: Callable[..., Path], graph_writer: Callable[..., Path]
) -> Path:
    """Models of several kinds: see each one's comment."""
    path = tmp_path_factory.mktemp("repository")
    # Batches, with labels and versions 1 and 2.
    for version in (1, 2):
        model_writer(path / "doubler" / str(version) / "model.onnx")
    (path / "doubler" / "config.pbtxt").write_text(
        "max_batch_size: 8 dynamic_batching { } version_policy { all { } }"
        'output [ { name: "doubled" data_type: TYPE_FP32 dims: [ 4 ] label_filename: "labels.txt" } ]'
    )
    (path / "doubler" / "labels.txt").write_text("cat\ndog\nowl\nkühe\n")
    # Two inputs, two outputs.
    a, b = ("INT64", ["N"]), ("FLOAT", ["N", 2])
    graph_writer(
        path / "pair" / "1" / "model.onnx",
        {"a": a, "b": b},
        {"minus_a": a, "minus_b": b},
        ("Neg", "a", "minus_a"),
        ("Neg", "b", "minus_b"),
    )
    # Strings; 16-bit floats; truth values; one byte.
    for name, kind in {"words": "STRING", "halves": "FLOAT16", "flags": "BOOL", "bytes": "UINT8"}.items():
        tensor = (kind, ["N", 2])
        graph_writer(path / name / "1" / "model.onnx", {"x": tensor}, {"y": tensor}, ("Identity", "x", "y"))
    # Its outputs may be no numbers.
    tensor = ("FLOAT", ["N", 2])
    graph_writer(path / "logs" / "1" / "model.onnx", {"x": tensor}, {"y": tensor}, ("Log", "x", "y"))
    return path


@pytest.fixture(scope="module")
def server(start_module_server: Callable[..., Any], repository: Path) -> Any:
    """A server on those models that takes bodies of up to 1 MiB."""
    return start_module_server(repository, "--max-message-mib", "1", "--max-json-mib", "1")


@pytest.fixture(scope="module")
def call(server: Any, call_http: Callable[..., Any]) -> Call:
    """Sends an HTTP request to it."""
    return lambda *args, **kwargs: call_http(server, *args, **kwargs)


VALUES = [[1.0, 2.0, 3.0, -4.0], [4.5, 0.5, 0.5, 0.5]]
INFER = "/v2/models/doubler/infer"


def tensor(name: str = "values", datatype: str = "FP32", shape: Any = (1, 4), **more: Any) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape, **more}


def good(**changes: Any) -> dict[str, Any]:
    """Returns a request of the doubler, changed."""
    return {"inputs": [tensor(data=VALUES[0])], **changes}


def binary_body(content: dict[str, Any], *buffers: bytes) -> tuple[bytes, dict[str, str]]:
    """Returns a body of JSON with binary data behind it, and the header that says so."""
    head = json.dumps(content).encode()
    return b"".join((head, *buffers)), {"Inference-Header-Content-Length": str(len(head))}


def split(answer: Any) -> tuple[dict[str, Any], bytes]:
    """Returns the JSON of an answer, and the binary data behind it."""
    size = int(answer.headers["inference-header-content-length"])
    return json.loads(answer.body[:size]), answer.body[size:]


def test_the_server_says_what_it_is(call: Call) -> None:
    answer = call("/v2")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    extensions = ["classification", "statistics", "binary_tensor_data"]
    assert (answer.json["name"], answer.json["version"]) == ("pixelserve", pixelserve.__version__)
    assert set(extensions) <= set(answer.json["extensions"])


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/v2/health/live", 200, {"live": True}),
        ("/v2/health/ready", 200, {"ready": True}),
        ("/v2/models/doubler/ready", 200, {"name": "doubler", "ready": True}),
        ("/v2/models/doubler/versions/1/ready", 200, {"name": "doubler", "ready": True}),
        ("/v2/models/doubler/versions/3/ready", 400, {"name": "doubler", "ready": False}),
        ("/v2/models/none/ready", 400, {"name": "none", "ready": False}),
    ],
)
def test_health_is_a_status(call: Call, path: str, status: int, said: dict[str, Any]) -> None:
    answer = call(path)
    assert (answer.status, answer.json) == (status, said)


def test_model_metadata_has_numbers_for_shapes(call: Call) -> None:
    metadata = call("/v2/models/doubler").json
    assert metadata["name"] == "doubler"
    assert metadata["versions"] == ["1", "2"]
    assert metadata["platform"] == "onnxruntime_onnx"
    assert metadata["inputs"] == [{"name": "values", "datatype": "FP32", "shape": [-1, 4]}]
    assert metadata["properties"]["version"] == "2"
    assert call("/v2/models/doubler/versions/1").json["properties"]["version"] == "1"


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/v2/models/none", 404, 'no model "none"; this server has bytes, doubler'),
        ("/v2/models/none/stats", 404, 'no model "none"'),
        ("/v2/models/doubler/versions/3", 404, "doubler has no version 3; it has 1, 2"),
        ("/v2/models/doubler/versions/new", 400, 'model version "new": expected a positive integer'),
        ("/v2/models/doubler/versions/new/ready", 400, "positive integer"),
        ("/v2/models", 404, "there is no /v2/models here; see GET /docs"),
        ("/v2/models/doubler/infer", 405, "/v2/models/doubler/infer does not accept GET; use POST"),
        ("/v2/models/k%C3%BChe", 404, 'no model "kühe"'),
        ("/v2/models/a%2Fb", 404, "there is no /v2/models/a/b here"),
        ("/v2/models/doubler%00", 404, 'no model "doubler\0"'),
    ],
)
def test_what_is_not_there_is_refused(call: Call, path: str, status: int, said: str) -> None:
    answer = call(path)
    assert answer.status == status
    assert said in answer.error


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/models/doubler:predict"),
        ("POST", "/v1/models/doubler/versions/1:predict"),
        ("POST", "/v1/models/doubler/labels/stable:regress"),
        ("GET", "/v1/models/doubler"),
        ("GET", "/v1/models/doubler/versions/1/metadata"),
    ],
)
def test_tensorflow_servings_paths_name_the_way_here(call: Call, method: str, path: str) -> None:
    answer = call(path, b'{"instances": [[1.0]]}' if method == "POST" else None, method=method)
    assert answer.status == 404
    assert f"there is no {path} here; it belongs to TensorFlow Serving's API" in answer.error
    assert (
        "send tensors to POST /v2/models/doubler/infer and pictures to POST /v1/models/doubler:classify" in answer.error
    )
    assert call("/v2/models/doubler").status == 200


def test_an_unknown_path_below_v1_is_not_taken_for_tensorflow_servings(call: Call) -> None:
    assert "see GET /docs" in call("/v1/models/doubler/other/path").error


@pytest.mark.parametrize(
    "path", ["/v2/models/stats", "/v2/models/doubler/stats", "/v2/models/doubler/versions/2/stats"]
)
def test_statistics_count_what_came_over_http(call: Call, eventually: Any, path: str) -> None:
    def count() -> int:
        (one,) = [s for s in call(path).json["model_stats"] if (s["name"], s["version"]) == ("doubler", "2")]
        assert isinstance(one["inference_stats"]["success"]["ns"], int)
        return int(one["inference_count"])

    before = count()
    assert call(INFER, good()).status == 200
    # The answer is sent before it is counted.
    eventually(lambda: count() == before + 1)


def test_a_models_configuration_is_that_of_grpc(call: Call) -> None:
    answer = call("/v2/models/doubler/config")
    assert (answer.status, answer.json["name"], answer.json["max_batch_size"]) == (200, "doubler", 8)


@pytest.mark.parametrize("body", [b"", {"ready": True}], ids=str)
def test_the_index_is_that_of_grpc(call: Call, server: Any, body: Any) -> None:
    served = server.stub().RepositoryIndex(pb.RepositoryIndexRequest(ready=bool(body)), timeout=30).models
    answer = call("/v2/repository/index", body)
    assert answer.status == 200
    assert [(m["name"], m["version"], m["state"]) for m in answer.json] == [
        (m.name, m.version, m.state) for m in served
    ]


@pytest.mark.parametrize("change", ["load", "unload"])
def test_without_explicit_control_loading_and_unloading_is_refused(call: Call, change: str) -> None:
    answer = call(f"/v2/repository/models/doubler/{change}", b"")
    assert (answer.status, "--model-control-mode explicit" in answer.error) == (503, True)


@pytest.mark.parametrize("nested", [False, True], ids=["flat", "nested"])
def test_json_goes_in_and_comes_out(call: Call, nested: bool) -> None:
    data = VALUES if nested else VALUES[0] + VALUES[1]
    answer = call(INFER, good(id="übung 7", inputs=[tensor(shape=[2, 4], data=data)]))
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert "inference-header-content-length" not in answer.headers
    assert answer.json == {
        "model_name": "doubler",
        "model_version": "2",
        "id": "übung 7",
        "outputs": [tensor("doubled", shape=[2, 4], data=[2, 4, 6, -8, 9, 1, 1, 1])],
    }


def test_a_large_body_of_json_goes_the_same_way(call: Call) -> None:
    rows = [[1.5, 2.5]] * 8
    text = json.dumps({"inputs": [tensor("x", "FP16", [8, 2], data=rows)]}).encode().ljust(500_000)
    assert call("/v2/models/halves/infer", text).json["outputs"] == [tensor("y", "FP16", [8, 2], data=[1.5, 2.5] * 8)]
    wrong = json.dumps({"inputs": [tensor("x", "FP16", [8, 2], data=[1])]}).encode().ljust(500_000)
    assert "1 elements in data; its shape needs 16" in call("/v2/models/halves/infer", wrong).error


def test_a_version_in_the_path_is_the_one_that_answers(call: Call) -> None:
    answer = call("/v2/models/doubler/versions/1/infer", good())
    assert answer.json["model_version"] == "1"
    assert "id" not in answer.json


def test_binary_data_goes_in_and_comes_out(call: Call) -> None:
    values = np.array(VALUES, np.float32)
    content = {
        "inputs": [tensor(shape=[2, 4], parameters={"binary_data_size": values.nbytes})],
        "parameters": {"binary_data_output": True},
    }
    answer = call(INFER, *binary_body(content, values.tobytes()))
    assert (answer.status, answer.headers["content-type"]) == (200, "application/octet-stream")
    said, binary = split(answer)
    assert said["outputs"] == [tensor("doubled", shape=[2, 4], parameters={"binary_data_size": 32})]
    np.testing.assert_array_equal(np.frombuffer(binary, np.float32).reshape(2, 4), 2 * values)


def test_each_tensor_travels_as_it_is_said_of_it(call: Call) -> None:
    """The second input is binary and the first is not; of the outputs, in the other order, the first is binary."""
    content = {
        "inputs": [
            tensor("b", shape=[1, 2], data=[1, 2]),
            tensor("a", "INT64", [1], parameters={"binary_data_size": 8}),
        ],
        "outputs": [
            {"name": "minus_a", "parameters": {"binary_data": True}},
            {"name": "minus_b", "parameters": {"binary_data": False}},
        ],
        "parameters": {"binary_data_output": True},
    }
    said, binary = split(call("/v2/models/pair/infer", *binary_body(content, (7).to_bytes(8, "little"))))
    assert said["outputs"] == [
        tensor("minus_a", "INT64", [1], parameters={"binary_data_size": 8}),
        tensor("minus_b", shape=[1, 2], data=[-1, -2]),
    ]
    assert int.from_bytes(binary, "little", signed=True) == -7


@pytest.mark.parametrize(
    ("model", "datatype", "data"),
    [
        ("words", "BYTES", ["", "größer\0"]),
        ("halves", "FP16", [0.5, -65504.0]),
        ("flags", "BOOL", [True, False]),
        ("bytes", "UINT8", [0, 255]),
    ],
)
def test_other_datatypes_go_in_and_come_out(call: Call, model: str, datatype: str, data: list[Any]) -> None:
    answer = call(f"/v2/models/{model}/infer", {"inputs": [tensor("x", datatype, [1, 2], data=[data])]})
    assert answer.json["outputs"] == [tensor("y", datatype, [1, 2], data=data)]


@pytest.mark.parametrize("binary", [False, True], ids=["JSON", "binary"])
def test_classification_gives_the_best_classes(call: Call, binary: bool) -> None:
    asked = {"name": "doubled", "parameters": {"classification": 2, "binary_data": binary}}
    answer = call(INFER, good(outputs=[asked]))
    best = ["6.000000:2:owl", "4.000000:1:dog"]
    if not binary:
        assert answer.json["outputs"] == [tensor("doubled", "BYTES", [1, 2], data=best)]
        return
    said, raw = split(answer)
    assert said["outputs"][0]["parameters"] == {"binary_data_size": len(raw)}
    assert raw == b"".join(len(each).to_bytes(4, "little") + each.encode() for each in best)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_bodies_may_be_compressed_in_both_directions(call: Call, encoding: str) -> None:
    pack = {"gzip": gzip.compress, "deflate": zlib.compress}[encoding]
    unpack = {"gzip": gzip.decompress, "deflate": zlib.decompress}[encoding]
    values = np.zeros((8, 4), np.float32)
    content = {"inputs": [tensor(shape=[8, 4], parameters={"binary_data_size": values.nbytes})], "id": "x" * 900}
    body, headers = binary_body(content, values.tobytes())
    headers |= {"Content-Encoding": encoding, "Accept-Encoding": encoding}
    answer = call(INFER, pack(body), headers)
    assert (answer.status, answer.headers["content-encoding"]) == (200, encoding)
    assert json.loads(unpack(answer.body))["outputs"][0]["data"] == [0] * 32
    assert answer.headers["vary"] == "Accept-Encoding"


def test_parameters_reach_the_core(call: Call) -> None:
    parameters = {"priority": 3, "sequence_id": "x", "timeout": 60_000_000, "weight": 0.5, "flag": True, "big": 2**63}
    assert call(INFER, good(parameters=parameters)).status == 200


# Differences from a valid request of the doubler, and the expected error.
WRONG: dict[str, tuple[Any, int, str]] = {
    "no JSON": (b"{", 400, "the body is not JSON"),
    "nothing": (b"", 400, "the body is not JSON"),
    "text that is not UTF-8": (b'{"id": "\xff"}', 400, "the body is not JSON"),
    "a list": ([], 400, "not an object"),
    "lists in lists without end": (b"[" * 100_000, 400, "the body is not JSON"),
    "a number of 5000 digits": (b'{"id": ' + b"9" * 5000 + b"}", 400, "the body is not JSON"),
    "NaN": (
        b'{"inputs": [{"data": [NaN]}]}',
        400,
        "the body is not JSON: JSON is malformed: invalid character (byte 22); expected UTF-8, and finite",
    ),
    "infinity": (b'{"inputs": [{"data": [-Infinity]}]}', 400, "the body is not JSON"),
    "a number beyond all floats": (b'{"inputs": [{"data": [1e999]}]}', 400, "the body is not JSON"),
    "no inputs": ({}, 400, "model doubler: input values is missing; expected values"),
    "inputs that are no list": ({"inputs": {}}, 400, "inputs must be a list"),
    "an input that is no object": ({"inputs": [1]}, 400, "not an object"),
    "an id that is no string": (good(id=7), 400, "id must be a string"),
    "an id that is half a character": (b'{"id": "\\ud800"}', 400, "the body is not JSON"),
    "an input without a name": ({"inputs": [{"data": [1]}]}, 400, 'model doubler has no input ""'),
    "an unknown input": ({"inputs": [tensor("image", data=VALUES[0])]}, 400, 'no input "image"; it has values'),
    "an input twice": ({"inputs": [tensor(data=VALUES[0])] * 2}, 400, "twice"),
    "another datatype": ({"inputs": [tensor(datatype="FP64", data=VALUES[0])]}, 400, 'datatype "FP64"; expected FP32'),
    "no datatype": ({"inputs": [tensor(datatype="", data=VALUES[0])]}, 400, 'datatype ""; expected FP32'),
    "an unknown datatype": ({"inputs": [tensor(datatype="FP8", data=VALUES[0])]}, 400, 'datatype "FP8"'),
    "another rank": ({"inputs": [tensor(shape=[4], data=VALUES[0])]}, 400, "has shape [4]; expected [-1, 4]"),
    "another shape": ({"inputs": [tensor(shape=[2, 2], data=VALUES[0])]}, 400, "has shape [2, 2]; expected [-1, 4]"),
    "minus one rows": ({"inputs": [tensor(shape=[-1, 4], data=VALUES[0])]}, 400, "has shape [-1, 4]"),
    "no rows": ({"inputs": [tensor(shape=[0, 4], data=[])]}, 400, "has 0 rows; expected 1 to 8"),
    "too many rows": ({"inputs": [tensor(shape=[9, 4], data=[0] * 36)]}, 400, "has 9 rows; expected 1 to 8"),
    "a shape of text": ({"inputs": [tensor(shape="14", data=VALUES[0])]}, 400, "shape must be a list"),
    "a dimension of text": ({"inputs": [tensor(shape=["1", 4], data=VALUES[0])]}, 400, "not a dimension"),
    "a dimension too large": ({"inputs": [tensor(shape=[2**63, 4], data=VALUES[0])]}, 400, "not a dimension"),
    "too few elements": ({"inputs": [tensor(data=[1, 2, 3])]}, 400, "3 elements in data; its shape needs 4"),
    "ragged data": ({"inputs": [tensor(shape=[2, 4], data=[[1, 2, 3, 4], [1]])]}, 400, "ragged"),
    "text for numbers": ({"inputs": [tensor(data=["1", 2, 3, 4])]}, 400, 'has "1" in data; expected numbers'),
    "a number too large": ({"inputs": [tensor(data=[1e39, 2, 3, 4])]}, 400, "has an element that does not fit FP32"),
    "no data": ({"inputs": [tensor()]}, 400, "input values has no data"),
    "data of null": ({"inputs": [tensor(data=None)]}, 400, "has null for data; expected a list"),
    "shared memory": (
        {"inputs": [tensor(parameters={"shared_memory_region": "r"})]},
        400,
        "expected shared_memory_byte_size",
    ),
    "data and binary data": (
        {"inputs": [tensor(data=VALUES[0], parameters={"binary_data_size": 16})]},
        400,
        "has both data and binary_data_size; send one",
    ),
    "binary data that did not come": (
        {"inputs": [tensor(parameters={"binary_data_size": 16})]},
        400,
        "0 bytes follow the JSON; the inputs' binary_data_size adds up to 16",
    ),
    "a size that is none": ({"inputs": [tensor(parameters={"binary_data_size": -1})]}, 400, "not a number of bytes"),
    "a parameter that is a list": (good(parameters={"p": [1]}), 400, "parameter p is not a string, a 64-bit number"),
    "a parameter too large": (good(parameters={"p": 2**64}), 400, "parameter p is not a string, a 64-bit number"),
    "a reserved parameter": (good(parameters={"triton_x": True}), 400, "request parameter triton_x is not served"),
    "a timeout of none": (good(parameters={"timeout": 0}), 400, "request parameter timeout"),
    "an unknown output": (good(outputs=[{"name": "halved"}]), 400, 'no output "halved"; it has doubled'),
    "an output twice": (good(outputs=[{"name": "doubled"}] * 2), 400, "requested twice"),
    "classification of none": (
        good(outputs=[{"name": "doubled", "parameters": {"classification": 0}}]),
        400,
        "classification is 0; expected 1 or more",
    ),
    "binary_data of text": (
        good(outputs=[{"name": "doubled", "parameters": {"binary_data": "yes"}}]),
        400,
        "binary_data must be true or false",
    ),
    "a body that is too large": (b" " * (1024 * 1024 + 1), 413, "the body has more than 1,048,576 bytes"),
    "a body that is far too large": (b" " * (4 * 1024 * 1024), 413, "--max-message-mib"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_request_is_refused_in_words(call: Call, case: str) -> None:
    body, status, said = WRONG[case]
    answer = call(INFER, body)
    assert (answer.status, answer.headers["content-type"]) == (status, "application/json")
    assert said in answer.error


HEADER = "Inference-Header-Content-Length"


@pytest.mark.parametrize(
    ("headers", "buffer", "status", "said"),
    [
        ({HEADER: "x"}, 16, 400, f'{HEADER} is "x"; expected the size of the JSON in bytes'),
        ({HEADER: "-1"}, 16, 400, f'{HEADER} is "-1"'),
        ({HEADER: "9" * 5000}, 16, 400, "expected the size of the JSON in bytes"),
        ({HEADER: "100000"}, 16, 400, f"{HEADER} is 100000, and the body has"),
        ({}, 17, 400, "17 bytes follow the JSON; the inputs' binary_data_size adds up to 16"),
        ({}, 15, 400, "15 bytes follow the JSON; the inputs' binary_data_size adds up to 16"),
        ({"Content-Encoding": "br"}, 16, 415, 'Content-Encoding is "br"; expected gzip, deflate or none'),
        ({"Content-Encoding": "gzip"}, 16, 400, "Content-Encoding is gzip and the body is not"),
    ],
)
def test_wrong_binary_data_is_refused(call: Call, headers: dict[str, str], buffer: int, status: int, said: str) -> None:
    body, header = binary_body({"inputs": [tensor(parameters={"binary_data_size": 16})]}, bytes(buffer))
    answer = call(INFER, body, header | headers)
    assert answer.status == status
    assert said in answer.error


def test_binary_data_that_does_not_fit_the_shape_is_refused_as_over_grpc(call: Call) -> None:
    body, header = binary_body({"inputs": [tensor(parameters={"binary_data_size": 15})]}, bytes(15))
    assert "input values has 15 raw bytes; its shape and datatype make 16" in call(INFER, body, header).error


def test_json_is_limited_more_than_bodies_where_the_settings_say_so(
    start_server: Any, repository: Path, call_http: Any
) -> None:
    server = start_server(repository, "--max-json-mib", "1")
    answer = call_http(server, INFER, b" " * (1024 * 1024 + 1))
    assert answer.status == 413
    assert "the JSON has more than 1,048,576 bytes" in answer.error
    assert "--max-json-mib" in answer.error


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
@pytest.mark.parametrize(
    ("spoil", "status", "said"),
    [
        (lambda packed: packed[:-1], 400, "cut off"),
        (lambda packed: packed + b"x", 400, "more behind its end"),
        (None, 413, "the body, decompressed, has more than 1,048,576 bytes"),
    ],
    ids=["cut off", "more behind", "a bomb"],
)
def test_a_compressed_body_that_is_wrong_is_refused(
    call: Call, encoding: str, spoil: Any, status: int, said: str
) -> None:
    pack = {"gzip": gzip.compress, "deflate": zlib.compress}[encoding]
    # A thousand times smaller than its unpacked size.
    packed = pack(bytes(64 * 1024 * 1024)) if spoil is None else spoil(pack(json.dumps(good()).encode()))
    answer = call(INFER, packed, {"Content-Encoding": encoding})
    assert answer.status == status
    assert said in answer.error


def test_an_answer_that_json_cannot_say_is_refused_and_can_be_had_as_binary_data(call: Call) -> None:
    sent: dict[str, Any] = {"inputs": [tensor("x", shape=[1, 2], data=[0, -1])]}
    answer = call("/v2/models/logs/infer", sent)
    assert answer.status == 400
    assert "model logs: output y has NaN or infinity" in answer.error
    _, raw = split(call("/v2/models/logs/infer", sent | {"parameters": {"binary_data_output": True}}))
    first, second = np.frombuffer(raw, np.float32)
    assert (first, np.isnan(second)) == (-np.inf, True)


@pytest.mark.parametrize(
    ("body", "said"), [({"ready": "yes"}, "ready must be true or false"), (b"[]", "not an object")], ids=str
)
def test_a_wrong_question_for_the_index_is_refused(call: Call, body: Any, said: str) -> None:
    assert said in call("/v2/repository/index", body).error


def test_after_all_wrong_requests_the_server_is_as_before(server: Any, call: Call) -> None:
    for body, status, _ in WRONG.values():
        assert call(INFER, body).status == status
    assert call(INFER, good()).json["outputs"][0]["data"] == [2, 4, 6, -8]
    assert [event for event in server.events() if event["level"] == "error"] == []
    stub: inference_pb2_grpc.GRPCInferenceServiceStub = server.stub()
    assert stub.ServerReady(pb.ServerReadyRequest(), timeout=30).ready


def test_the_description_lists_what_is_served(call: Call) -> None:
    document = call("/openapi.json").json
    assert document["openapi"].startswith("3.1")
    for path, methods in document["paths"].items():
        for method in methods:
            concrete = path.replace("{model}", "doubler").replace("{version}", "1")
            assert call(concrete, b"" if method == "post" else None, method=method.upper()).status not in (404, 405)
    page = call("/docs")
    (port,) = set(re.findall(r"127\.0\.0\.1:(\d+)", page.body.decode()))
    assert re.search(rf"curl -s http://127.0.0.1:{port}/v2/models/\w+/versions/\d+/infer", page.body.decode())
    assert "mnist-cnn" not in page.body.decode()
    assert page.headers["content-type"].startswith("text/html")
    assert "/v2/models/{model}/infer" in page.body.decode()
    # It works offline.
    assert "src=" not in page.body.decode()
