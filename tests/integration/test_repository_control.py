"""A running server follows its repository or its clients without losing requests."""

import asyncio
import base64
import json
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import grpc
import grpc.aio
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from pixelserve.oip import inference_pb2 as pb

TIMEOUT_S = 30
IN_FLIGHT = 32
SWAPS = 10

pytestmark = pytest.mark.slow


def load(server: Any, name: str, **fields: Any) -> None:
    server.stub().RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name=name, **fields), timeout=TIMEOUT_S)


def unload(server: Any, name: str, **fields: Any) -> None:
    server.stub().RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name=name, **fields), timeout=TIMEOUT_S)


def is_ready(server: Any, name: str) -> bool:
    return bool(server.stub().ModelReady(pb.ModelReadyRequest(name=name), timeout=TIMEOUT_S).ready)


def index(server: Any) -> list[tuple[str, str, str, str]]:
    """Returns each version's model, number, state and reason."""
    models = server.stub().RepositoryIndex(pb.RepositoryIndexRequest(), timeout=TIMEOUT_S).models
    return [(each.name, each.version, each.state, each.reason) for each in models]


def refused(call: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as error:
        call()
    return error.value.code(), error.value.details()


@pytest.fixture
def explicit_server(start_server: Callable[..., Any], doubler_repository: Path) -> Any:
    return start_server(doubler_repository, "--model-control-mode", "explicit")


@pytest.mark.parametrize("name", ["dou\0bler", "doubler\0", "x" * 300, ".."], ids=ascii)
def test_a_name_that_no_folder_has_is_the_callers_mistake(
    explicit_server: Any, call_http: Callable[..., Any], name: str
) -> None:
    server, override = explicit_server, pb.ModelRepositoryParameter(string_param="{}")
    assert refused(lambda: load(server, name))[0] is grpc.StatusCode.NOT_FOUND
    assert refused(lambda: unload(server, name))[0] is grpc.StatusCode.NOT_FOUND
    code, _ = refused(lambda: load(server, name, parameters={"config": override}))
    assert code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)
    file = pb.ModelRepositoryParameter(bytes_param=b"x")
    code, _ = refused(lambda: load(server, "new", parameters={"config": override, f"file:1/{name}/": file}))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    for path in ("ready", "config", "stats"):
        assert call_http(server, f"/v2/models/{quote(name, safe='')}/{path}").status in (400, 404)
    sent = {"parameters": {"config": "{}", f"file:1/{name}": "eA=="}}
    answer = call_http(server, f"/v2/repository/models/{quote(name, safe='')}/load", sent)
    assert answer.status in (400, 404)
    assert [event for event in server.events() if event["level"] == "error"] == []


def test_half_a_character_in_a_loads_parameters_is_the_callers_mistake(
    explicit_server: Any, call_http: Callable[..., Any]
) -> None:
    for parameters in ({"file:\ud800": "eA=="}, {"config": "\ud800"}, {"\ud800": "x"}, {"config": {"name": "\ud800"}}):
        answer = call_http(explicit_server, "/v2/repository/models/doubler/load", {"parameters": parameters})
        assert answer.status == 400


def write_weights_beside(graph: Path, factor: float) -> None:
    """Writes a model [rows, 4] whose factor is in a file beside the graph."""
    rows = helper.make_tensor_value_info("values", TensorProto.FLOAT, ["N", 4])
    result = helper.make_tensor_value_info("doubled", TensorProto.FLOAT, ["N", 4])
    weights = helper.make_tensor("factor", TensorProto.FLOAT, [4], np.full(4, factor, np.float32).tobytes(), raw=True)
    nodes = [helper.make_node("Mul", ["values", "factor"], ["doubled"])]
    made = helper.make_graph(nodes, "g", [rows], [result], [weights])
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    graph.parent.mkdir(parents=True, exist_ok=True)
    (graph.parent / "weights.bin").unlink(missing_ok=True)
    onnx.save(model, graph, save_as_external_data=True, location="weights.bin", size_threshold=0)


def test_a_graph_in_a_folder_with_its_weights_is_served_and_followed(
    start_server: Callable[..., Any],
    tmp_path: Path,
    make_request: Callable[..., pb.ModelInferRequest],
    eventually: Callable[..., None],
) -> None:
    """Triton's layout for weights beside a graph: a folder that is called model.onnx."""
    graph = tmp_path / "scaler" / "1" / "model.onnx" / "model.onnx"
    write_weights_beside(graph, 3)
    server = start_server(tmp_path, "--model-control-mode", "poll", "--repository-poll-s", "0.1")
    stub = server.stub()

    def factor() -> float:
        (raw,) = stub.ModelInfer(make_request("scaler"), timeout=TIMEOUT_S).raw_output_contents
        return float(np.frombuffer(raw, np.float32)[1])

    assert factor() == 3
    (graph.parent / "weights.bin").write_bytes(np.full(4, 5, np.float32).tobytes())
    eventually(lambda: factor() == 5, timeout_s=TIMEOUT_S)
    # What leads out of the version changes nothing for what serves.
    (tmp_path / "secret").write_bytes(bytes(16))
    (graph.parent / "weights.bin").unlink()
    (graph.parent / "weights.bin").symlink_to(tmp_path / "secret")
    eventually(
        lambda: any("a link out of the model's folder" in str(event.get("reason")) for event in server.events()),
        timeout_s=TIMEOUT_S,
    )
    assert factor() == 5


def test_with_explicit_control_nothing_is_loaded_until_a_client_asks(
    explicit_server: Any, make_request: Callable[..., pb.ModelInferRequest]
) -> None:
    server = explicit_server
    assert index(server) == [("doubler", "", "UNAVAILABLE", "not loaded")]
    code, _ = refused(lambda: server.stub().ModelInfer(make_request(), timeout=TIMEOUT_S))
    assert code is grpc.StatusCode.NOT_FOUND
    load(server, "doubler")
    assert is_ready(server, "doubler")
    assert server.stub().ModelInfer(make_request(), timeout=TIMEOUT_S).model_version == "1"
    assert index(server) == [("doubler", "1", "READY", "")]
    unload(server, "doubler")
    assert not is_ready(server, "doubler")
    assert index(server) == [("doubler", "1", "UNAVAILABLE", "unloaded")]
    code, text = refused(lambda: server.stub().ModelInfer(make_request(), timeout=TIMEOUT_S))
    assert (code, text) == (grpc.StatusCode.NOT_FOUND, "no version of model doubler is ready: unloaded")


def test_models_are_loaded_and_unloaded_over_http_too(
    start_server: Callable[..., Any], doubler_repository: Path
) -> None:
    server = start_server(doubler_repository, "--model-control-mode", "explicit", "--http", "--http-port", "0")

    def post(path: str, body: bytes = b"") -> tuple[int, bytes]:
        # Without a body urllib calls the content a form's, which it may then be.
        headers = {"Content-Type": "application/json"} if body else {}
        url = f"{server.fields['http']}/v2/repository/models/{path}"
        request = urllib.request.Request(url, body, headers, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    assert post("doubler/load") == (200, b"")
    assert is_ready(server, "doubler")
    assert post("doubler/unload", b"{}") == (200, b"")
    assert not is_ready(server, "doubler")
    status, said = post("doubler/load", b'{"parameters": {"surprise": "{}"}}')
    assert (status, b"load parameter" in said) == (400, True)
    status, said = post("doubler/load", b'{"parameters": {"config": "{}", "file:1/model.onnx": "not base64"}}')
    assert (status, b"is not base64" in said) == (400, True)
    status, said = post("none/load")
    assert (status, b"no model" in said) == (404, True)


def test_models_named_at_start_up_are_loaded_then(
    start_server: Callable[..., Any], doubler_repository: Path, model_writer: Callable[..., Path]
) -> None:
    model_writer(doubler_repository / "other" / "1" / "model.onnx")
    server = start_server(doubler_repository, "--model-control-mode", "explicit", "--load-models", "doubler")
    assert server.fields["models"] == ["doubler/1"]
    assert not is_ready(server, "other")


def test_a_load_that_fails_says_why_and_what_served_goes_on(
    explicit_server: Any, doubler_repository: Path, make_request: Callable[..., pb.ModelInferRequest]
) -> None:
    server = explicit_server
    load(server, "doubler")
    broken = doubler_repository / "doubler" / "2" / "model.onnx"
    broken.parent.mkdir()
    broken.write_bytes(b"damaged")
    code, text = refused(lambda: load(server, "doubler"))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert str(broken) in text
    assert server.stub().ModelInfer(make_request(), timeout=TIMEOUT_S).model_version == "1"
    assert server.stub().ServerReady(pb.ServerReadyRequest(), timeout=TIMEOUT_S).ready


def test_the_index_says_that_the_files_on_disk_have_changed(
    explicit_server: Any, doubler_repository: Path, model_writer: Callable[..., Path]
) -> None:
    server = explicit_server
    load(server, "doubler")
    assert index(server) == [("doubler", "1", "READY", "")]
    model_writer(doubler_repository / "doubler" / "1" / "model.onnx", output="twice")
    ((_, _, state, reason),) = index(server)
    assert (state, reason) == ("READY", "serves what was loaded before; the files on disk have changed since")
    load(server, "doubler")
    assert index(server) == [("doubler", "1", "READY", "")]


REFUSALS = [
    pytest.param("none", {}, grpc.StatusCode.NOT_FOUND, 'no model "none"', id="no such folder"),
    pytest.param("../doubler", {}, grpc.StatusCode.NOT_FOUND, "no model", id="a way out of the repository"),
    pytest.param("", {}, grpc.StatusCode.INVALID_ARGUMENT, "model_name is empty", id="no name"),
    pytest.param("doubler", {"repository_name": "r"}, grpc.StatusCode.UNIMPLEMENTED, "one repository", id="repository"),
]


@pytest.mark.parametrize(("name", "fields", "code", "said"), REFUSALS)
def test_a_load_that_cannot_be_is_refused(
    explicit_server: Any, name: str, fields: dict[str, str], code: grpc.StatusCode, said: str
) -> None:
    found, text = refused(lambda: load(explicit_server, name, **fields))
    assert (found, said in text) == (code, True), text


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        pytest.param({"surprise": {"string_param": "{}"}}, 'load parameter "surprise" is unknown', id="unknown"),
        pytest.param({"config": {"string_param": "{"}}, 'load parameter "config": ', id="no JSON"),
        pytest.param({"config": {"string_param": '{"max_batch": 4}'}}, "max_batch", id="unknown field"),
        pytest.param({"config": {"int64_param": 1}}, "came as int64_param; expected string_param", id="no text"),
        pytest.param({"config": {"string_param": '{"max_batch_size": -1}'}}, "max_batch_size is -1", id="wrong value"),
        pytest.param({"file:1/model.onnx": {"bytes_param": b"x"}}, 'needs "config" beside it', id="no configuration"),
    ],
)
def test_load_parameters_that_are_wrong_are_named(explicit_server: Any, parameters: dict[str, Any], said: str) -> None:
    load(explicit_server, "doubler")
    wrong = {name: pb.ModelRepositoryParameter(**value) for name, value in parameters.items()}
    code, text = refused(lambda: load(explicit_server, "doubler", parameters=wrong))
    assert (code, said in text) == (grpc.StatusCode.INVALID_ARGUMENT, True), text
    assert is_ready(explicit_server, "doubler")


def test_a_configuration_that_is_sent_holds_until_the_next_load(explicit_server: Any) -> None:
    server = explicit_server

    def max_batch_size() -> int:
        asked = pb.ModelConfigRequest(name="doubler")
        return int(server.stub().ModelConfig(asked, timeout=TIMEOUT_S).config.max_batch_size)

    sent = pb.ModelRepositoryParameter(string_param='{"max_batch_size": 3, "dynamic_batching": {}}')
    load(server, "doubler", parameters={"config": sent})
    assert max_batch_size() == 3
    load(server, "doubler")
    assert max_batch_size() == 64


def test_a_model_that_is_sent_is_served_although_the_repository_has_none(
    explicit_server: Any, tmp_path: Path, model_writer: Callable[..., Path], make_request: Callable[..., Any]
) -> None:
    """Over HTTP, where files are base64; the repository has no folder of that name, and gets none."""
    server = explicit_server
    content = model_writer(tmp_path / "elsewhere" / "1" / "model.onnx").read_bytes()
    parameters = {"config": '{"max_batch_size": 4}', "file:7/model.onnx": base64.b64encode(content).decode()}
    url = f"{server.fields['http']}/v2/repository/models/sent/load"
    body = json.dumps({"parameters": parameters}).encode()
    posted = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(posted, timeout=TIMEOUT_S) as answer:
        assert answer.status == 200
    assert server.stub().ModelInfer(make_request("sent"), timeout=TIMEOUT_S).model_version == "7"
    unload(server, "sent")
    code, _ = refused(lambda: load(server, "sent"))
    assert code is grpc.StatusCode.NOT_FOUND


def test_files_that_were_sent_go_with_the_server_or_with_the_one_after_it(
    start_server: Callable[..., Any], doubler_repository: Path, tmp_path: Path
) -> None:
    files = tmp_path / "tmp"
    files.mkdir()

    def start() -> Any:
        mode = ("--model-control-mode", "explicit", "--load-models", "doubler")
        return start_server(doubler_repository, *mode, env={"TMPDIR": str(files)})

    sent = pb.ModelRepositoryParameter(string_param='{"max_batch_size": 3}')
    killed = start()
    load(killed, "doubler", parameters={"config": sent})
    killed.stop(signal.SIGKILL)
    assert len(list(files.glob("pixelserve-files-*/1/doubler"))) == 1
    server = start()
    assert list(files.iterdir()) == []
    load(server, "doubler", parameters={"config": sent})
    assert len(list(files.iterdir())) == 1
    assert server.stop() == 0
    assert list(files.iterdir()) == []


@pytest.mark.parametrize("mode", ["none", "poll"])
def test_clients_load_and_unload_with_explicit_control_only(
    start_server: Callable[..., Any], doubler_repository: Path, mode: str
) -> None:
    server = start_server(doubler_repository, "--model-control-mode", mode)
    for change in (load, unload):
        code, text = refused(lambda: change(server, "doubler"))  # noqa: B023  called in the same turn
        assert code is grpc.StatusCode.UNAVAILABLE
        assert f"--model-control-mode explicit; this server runs with {mode}" in text
    assert is_ready(server, "doubler")


def test_a_server_that_polls_follows_its_repository(
    start_server: Callable[..., Any],
    doubler_repository: Path,
    model_writer: Callable[..., Path],
    eventually: Callable[..., None],
) -> None:
    # It polls every hour, so changes are seen through file events.
    server = start_server(doubler_repository, "--model-control-mode", "poll", "--repository-poll-s", "3600")
    model_writer(doubler_repository / "other" / "1" / "model.onnx")
    eventually(lambda: is_ready(server, "other"), timeout_s=TIMEOUT_S)
    shutil.rmtree(doubler_repository / "doubler")
    eventually(lambda: not is_ready(server, "doubler"), timeout_s=TIMEOUT_S)
    # The disk goes, and what serves stays.
    shutil.rmtree(doubler_repository)
    eventually(
        lambda: any(event["event"] == "repository cannot be read" for event in server.events()), timeout_s=TIMEOUT_S
    )
    assert is_ready(server, "other")
    assert server.stop() == 0


def test_a_candidate_is_tried_promoted_and_taken_back(
    start_server: Callable[..., Any],
    doubler_repository: Path,
    model_writer: Callable[..., Path],
    make_request: Callable[..., pb.ModelInferRequest],
    eventually: Callable[..., None],
) -> None:
    """Timeline: 1. version 1 is stable, 2 a candidate, and each answers its requests; 2. the candidate is
    promoted; 3. it is rolled back. Nothing is loaded a second time."""
    model_writer(doubler_repository / "doubler" / "2" / "model.onnx")
    (doubler_repository / "doubler" / "config.pbtxt").write_text("max_batch_size: 8\n")
    repository = ("--model-repository", str(doubler_repository))

    def models(*arguments: str) -> str:
        command = [sys.executable, "-m", "pixelserve", "models", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=TIMEOUT_S).stdout

    models("promote", "doubler", "1", *repository)
    models("promote", "doubler", "--to", "candidate", *repository)
    server = start_server(doubler_repository, "--model-control-mode", "poll", "--http", "--http-port", "0")

    def version(alias: str | None = None) -> str:
        asked = {"pixelserve_alias": pb.InferParameter(string_param=alias)} if alias else {}
        answer = server.stub().ModelInfer(make_request(parameters=asked), timeout=TIMEOUT_S)
        return str(answer.model_version)

    assert (version(), version("stable"), version("candidate")) == ("1", "1", "2")
    body = {
        "parameters": {"pixelserve_alias": "candidate"},
        "inputs": [{"name": "values", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}],
    }
    posted = urllib.request.Request(f"{server.fields['http']}/v2/models/doubler/infer", json.dumps(body).encode())
    with urllib.request.urlopen(posted, timeout=TIMEOUT_S) as answer:
        assert json.load(answer)["model_version"] == "2"
    assert "2 candidate" in models("list", "--address", server.grpc)
    said = models("promote", "doubler", *repository)
    assert "doubler: stable is version 2 (was 1)" in said
    eventually(lambda: version() == "2", timeout_s=TIMEOUT_S)
    assert json.loads(models("rollback", "doubler", "--json", *repository))["after"]["stable"] == 1
    eventually(lambda: version() == "1", timeout_s=TIMEOUT_S)
    assert version("previous") == "2"
    config = server.stub().ModelConfig(pb.ModelConfigRequest(name="doubler"), timeout=TIMEOUT_S).config
    assert config.parameters["stable"].string_value == "1"
    assert len([event for event in server.events() if event["event"] == "model loaded"]) == 2


async def _swap_under_load(server: Any, body: bytes, swap: Callable[[int], None]) -> Counter[str]:
    """Keeps 32 requests in flight while versions are swapped; returns how each request ended."""
    counts: Counter[str] = Counter()
    over = asyncio.Event()
    async with grpc.aio.insecure_channel(server.grpc) as channel:
        infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")

        async def worker() -> None:
            while not over.is_set():
                try:
                    answer = pb.ModelInferResponse.FromString(await infer(body, timeout=TIMEOUT_S))
                    counts[f"version {answer.model_version}"] += 1
                except grpc.aio.AioRpcError as error:
                    counts[f"{error.code().name}: {error.details()}"] += 1

        workers = [asyncio.create_task(worker()) for _ in range(IN_FLIGHT)]
        for version in range(2, 2 + SWAPS):
            await asyncio.to_thread(swap, version)
        over.set()
        await asyncio.gather(*workers)
    return counts


def test_a_swap_under_load_loses_no_request(
    explicit_server: Any,
    doubler_repository: Path,
    model_writer: Callable[..., Path],
    make_request: Callable[..., pb.ModelInferRequest],
) -> None:
    server = explicit_server
    load(server, "doubler")

    def swap(version: int) -> None:
        model_writer(doubler_repository / "doubler" / str(version) / "model.onnx")
        load(server, "doubler")

    counts = asyncio.run(_swap_under_load(server, make_request().SerializeToString(), swap))
    assert all(ended.startswith("version ") for ended in counts), counts
    unloaded = [event["version"] for event in server.events() if event["event"] == "model unloaded"]
    assert unloaded == list(range(1, 1 + SWAPS))
    assert server.stop() == 0
