"""ModelInfer over HTTP: cached JSON changes neither requests nor answers."""

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelserve.oip import inference_pb2 as pb
from pixelserve_server.api.admission import Admission
from pixelserve_server.api.call import Call
from pixelserve_server.api.dispatch import CallGuard, Dispatcher
from pixelserve_server.api.rest import infer
from pixelserve_server.api.rest.body import BodyReader
from pixelserve_server.api.rest.http_call import HttpInvoker
from pixelserve_server.api.rest.infer import Inference
from pixelserve_server.api.rest.infer_request import to_head
from pixelserve_server.errors import InvalidRequest

MODEL_INFER = "/inference.GRPCInferenceService/ModelInfer"
INPUT = {"name": "x", "datatype": "UINT8", "shape": [1, 4], "parameters": {"binary_data_size": 4}}
BINARY = {"parameters": {"binary_data_output": True}}
ROW = b"\1\2\3\4"


class Server:
    """The inference path in front of a handler that answers with every input's bytes, turned round."""

    def __init__(self) -> None:
        self.asked: list[pb.ModelInferRequest] = []
        self.version = "1"
        self.rows = 1
        self.prefix = "of"
        self.logged: list[BaseException] = []
        dispatcher = Dispatcher({MODEL_INFER: self._handle}, Admission(1 << 30), CallGuard(self._log))
        self.inference = Inference(HttpInvoker(dispatcher), BodyReader(1 << 30, 1 << 30, 30), 1 << 20)

    def _log(self, error: BaseException) -> str:
        self.logged.append(error)
        return "some-id"

    def _handle(self, message: bytes, call: Call) -> None:
        request = pb.ModelInferRequest.FromString(message)
        # In protobuf's encoding, so heads are found by their bytes.
        assert message == request.SerializeToString()
        self.asked.append(request)
        response = pb.ModelInferResponse(model_name=request.model_name, model_version=self.version, id=request.id)
        for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True):
            response.outputs.add(name=f"{self.prefix} {tensor.name}", datatype="UINT8", shape=[self.rows, len(raw)])
            response.raw_output_contents.append(raw[::-1] * self.rows)
        call.reply(response.SerializeToString())

    def post(
        self, text: bytes, binary: bytes = b"", *, model: str = "m", version: str = "", **more: bytes
    ) -> tuple[Any, bytes]:
        """Returns the JSON of an answer and the bytes after it."""
        headers = {b"inference-header-content-length": b"%d" % len(text)} | {
            name.replace("_", "-").encode(): value for name, value in more.items()
        }

        async def receive() -> Any:
            return {"type": "http.request", "body": text + binary}

        scope = {"type": "http", "headers": list(headers.items())}
        self.inference._call._loop = None
        body, answer_headers = asyncio.run(self.inference(model, version, scope, headers, receive))
        assert not self.logged
        fields = dict(answer_headers)
        is_binary = fields[b"content-type"] == b"application/octet-stream"
        assert is_binary == (b"inference-header-content-length" in fields)
        size = int(fields[b"inference-header-content-length"]) if is_binary else len(body)
        return json.loads(body[:size]), body[size:]

    @property
    def known(self) -> int:
        return len(self.inference._known)


def written(content: dict[str, Any], **how: Any) -> bytes:
    return json.dumps(content, **how).encode()


@pytest.fixture
def server() -> Server:
    return Server()


def test_json_that_comes_again_is_read_once_and_the_rest_is_each_requests_own(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[bytes] = []
    monkeypatch.setattr(infer, "to_head", lambda *args: read.append(args[2]) or to_head(*args))
    for row, request_id in ((b"\1\2\3\4", "one"), (b"\5\6\7\x08", "two"), (b"\0\0\0\0", 'a "quote"'), (b"abcd", "é")):
        content, binary = server.post(written({"id": request_id, "inputs": [INPUT], **BINARY}), row)
        assert server.asked[-1].id == request_id
        assert list(server.asked[-1].raw_input_contents) == [row]
        assert binary == row[::-1]
        assert content == {
            "model_name": "m",
            "model_version": "1",
            "id": request_id,
            "outputs": [
                {"name": "of x", "datatype": "UINT8", "shape": [1, 4], "parameters": {"binary_data_size": 4}},
            ],
        }
    # One whose id needs escapes is not of the common form.
    assert len(read) == 3
    assert server.known == 3


def test_a_request_without_an_id_gets_none_whatever_came_before(server: Server) -> None:
    with_id = written({"id": "7", "inputs": [INPUT], **BINARY}, separators=(",", ":"))
    without = written({"inputs": [INPUT], **BINARY}, separators=(",", ":"))
    for text, wanted in ((with_id, "7"), (without, ""), (with_id, "7"), (without, "")):
        content, _ = server.post(text, ROW)
        assert (server.asked[-1].id, content.get("id", "")) == (wanted, wanted)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('{"id":"%s","inputs":[{INPUT}],"id":"last"}', "last"),
        ('{"id":"%s","inputs":[{INPUT}],"\\u0069d":"last"}', "last"),
        ('{"id":"%s","inputs":[{INPUT}],"parameters":{"id":"of the parameters"}}', "%s"),
        ('{ "id" : "%s" ,\n "inputs":[{INPUT}]}', "%s"),
        ('{"inputs":[{INPUT}],"id":"%s"}', "%s"),
        ('{"id":"%s","inputs":[{INPUT}],"id":null}', ""),
    ],
)
def test_the_id_is_the_one_that_json_means(server: Server, text: str, wanted: str) -> None:
    text = text.replace("{INPUT}", json.dumps(INPUT))
    for request_id in ("first", "second", "first"):
        expected = wanted.replace("%s", request_id)
        content, _ = server.post(text.replace("%s", request_id).encode(), ROW)
        assert (server.asked[-1].id, content.get("id", "")) == (expected, expected)


def test_invalid_json_is_refused_even_after_a_cached_head(server: Server) -> None:
    text = written({"id": "7", "inputs": [INPUT]})
    server.post(text, ROW)
    with pytest.raises(InvalidRequest, match="not JSON"):
        server.post(text.removeprefix(b'{"id": "7", '), ROW)


def test_models_and_versions_are_distinguished(server: Server) -> None:
    text = written({"inputs": [INPUT], **BINARY})
    for model, version in (("m", ""), ("m", "2"), ("n", "2"), ("m", "")):
        content, _ = server.post(text, ROW, model=model, version=version)
        assert (server.asked[-1].model_name, server.asked[-1].model_version) == (model, version)
        assert content["model_name"] == model


def test_an_answer_of_another_version_or_shape_is_written_again(server: Server) -> None:
    text = written({"id": "7", "inputs": [INPUT], **BINARY})
    changes = (("1", 1, "of"), ("2", 1, "of"), ("2", 3, "of"), ("2", 3, "by"), ("10", 3, "by"), ("1", 1, "of"))
    for version, rows, server.prefix in changes:
        server.version, server.rows = version, rows
        for _ in range(2):
            content, binary = server.post(text, ROW)
            assert content["model_version"] == version
            assert content["outputs"][0]["shape"] == [rows, 4]
            assert content["outputs"][0]["name"] == f"{server.prefix} x"
            assert binary == ROW[::-1] * rows


def test_elements_that_do_not_fit_are_refused_though_the_json_is_known(server: Server) -> None:
    text = written({"inputs": [INPUT]})
    server.post(text, ROW)
    for binary in (b"", b"\1\2\3", b"\1\2\3\4\5"):
        with pytest.raises(
            InvalidRequest, match=f"{len(binary)} bytes follow the JSON; the inputs' binary_data_size .* 4"
        ):
            server.post(text, binary)
    assert len(server.asked) == 1


def test_elements_in_json_are_read_every_time(server: Server) -> None:
    for row in ([1, 2, 3, 4], [5, 6, 7, 8]):
        content, _ = server.post(written({"inputs": [{**INPUT, "data": row, "parameters": {}}]}))
        assert content["outputs"][0]["data"] == row[::-1]
    assert server.known == 0


def test_what_is_remembered_is_bounded(server: Server) -> None:
    for number in range(2000):
        server.post(written({"inputs": [INPUT], "parameters": {"n": number}}), ROW)
    assert server.known <= 512
    server.post(written({"inputs": [INPUT], "parameters": {"long": "x" * 5000}}), ROW)
    assert server.known <= 512
    assert not any(len(text) > 4096 for _, _, text in server.inference._known)


TENSORS = st.lists(
    st.tuples(st.binary(max_size=5), st.booleans(), st.sampled_from([None, True, False])), min_size=1, max_size=3
)


@settings(max_examples=200, deadline=None)
@given(
    requests=st.lists(
        st.tuples(
            TENSORS,
            st.sampled_from(["", "7", "eight", 'with " and \\', "ü"]),
            st.booleans(),
            st.sampled_from([{}, {"priority": 3}, {"binary_data_output": True}]),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_whatever_is_sent_in_whatever_order_is_asked_and_answered_as_if_it_came_alone(requests: Any) -> None:
    together = Server()
    for tensors, request_id, id_first, parameters in requests * 2:
        inputs, binary = [], b""
        for number, (data, is_binary, _) in enumerate(tensors):
            tensor: dict[str, Any] = {"name": f"x{number}", "datatype": "UINT8", "shape": [len(data)]}
            if is_binary:
                binary += data
                inputs.append(tensor | {"parameters": {"binary_data_size": len(data)}})
            else:
                inputs.append(tensor | {"data": list(data)})
        outputs = [
            {"name": f"of x{number}", "parameters": {} if wanted is None else {"binary_data": wanted}}
            for number, (_, _, wanted) in enumerate(tensors)
        ]
        content: dict[str, Any] = {"inputs": inputs, "outputs": outputs, "parameters": parameters}
        if request_id:
            content = {"id": request_id, **content} if id_first else {**content, "id": request_id}
        alone = Server()
        text = written(content)
        assert together.post(text, binary) == alone.post(text, binary)
        assert together.asked[-1] == alone.asked[-1]
        assert list(together.asked[-1].raw_input_contents) == [data for data, _, _ in tensors]
        assert together.asked[-1].id == request_id
