"""A server's life cycle: start-up messages and shutdown."""

import json
import signal
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from pixelserve.oip import inference_pb2 as pb
from pixelserve.oip import inference_pb2_grpc

# Each starts a process.
pytestmark = pytest.mark.slow

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
TIMEOUT_S = 30
# Longer than any of these tests may take: what waits for it has failed.
HOUR_S = "3600"

Start = Callable[..., Any]


@pytest.fixture
def connect() -> Iterator[Callable[[Any], grpc.Channel]]:
    """Opens channels to servers and closes them after the test."""
    channels: list[grpc.Channel] = []

    def open_channel(server: Any, *, own_connection: bool = False) -> grpc.Channel:
        options = [("grpc.use_local_subchannel_pool", 1)] if own_connection else None
        channels.append(grpc.insecure_channel(server.grpc, options))
        return channels[-1]

    yield open_channel
    for channel in channels:
        channel.close()


@pytest.fixture
def patient_repository(tmp_path: Path, write_patient_model: Callable[..., None]) -> Path:
    """One model that waits until eight rows are there."""
    write_patient_model(tmp_path / "repository" / "patient", rows=8)
    return tmp_path / "repository"


def probe(server: Any, path: str) -> int:
    """Returns the status of a page on the metrics port."""
    try:
        with urllib.request.urlopen(server.metrics.replace("/metrics", path), timeout=TIMEOUT_S) as page:
            return page.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def event(server: Any, name: str) -> dict[str, Any]:
    (found,) = [each for each in server.events() if each["event"] == name]
    return found


def test_the_log_says_what_started_as_one_json_object_a_line(doubler_repository: Path, start_server: Start) -> None:
    server = start_server(doubler_repository)
    assert probe(server, "/live") == 200
    assert server.stop() == 0
    events = [json.loads(line) for line in server.lines]
    # On a busy machine a load may take long enough to report its step.
    events = [each for each in events if each["event"] != "model loading"]
    assert [each["event"] for each in events] == ["model loaded", "serving", "draining", "stopped"]
    for each in events:
        assert each["level"] in {"info", "warning"}
        assert datetime.fromisoformat(each["timestamp"]).utcoffset() is not None


def test_the_start_up_line_has_the_addresses(doubler_repository: Path, start_server: Start, connect: Any) -> None:
    server = start_server(doubler_repository)
    line = event(server, "serving")
    assert line["models"] == ["doubler/1"]
    assert line["ready"] is True
    assert line["metrics"].startswith("http://127.0.0.1:")
    stub = inference_pb2_grpc.GRPCInferenceServiceStub(connect(server))
    assert stub.ServerLive(pb.ServerLiveRequest(), timeout=TIMEOUT_S).live
    assert (probe(server, "/live"), probe(server, "/ready"), probe(server, "/metrics")) == (200, 200, 200)


def test_log_metadata_and_metric_agree_on_the_provider(
    doubler_repository: Path, start_server: Start, connect: Any
) -> None:
    server = start_server(doubler_repository, "--device", "cpu")
    loaded = event(server, "model loaded")
    assert (loaded["model"], loaded["version"], loaded["provider"]) == ("doubler", 1, "CPUExecutionProvider")
    # Unverified, which an operator should see.
    assert (loaded["evidence"], loaded["level"]) == ("unverified: no card.json", "warning")
    stub = inference_pb2_grpc.GRPCInferenceServiceStub(connect(server))
    metadata = stub.ModelMetadata(pb.ModelMetadataRequest(name="doubler"), timeout=TIMEOUT_S)
    assert metadata.properties["provider"] == "CPUExecutionProvider"
    with urllib.request.urlopen(server.metrics, timeout=TIMEOUT_S) as page:
        (line,) = [line for line in page.read().decode().splitlines() if line.startswith("pixelserve_model_info{")]
    assert 'model="doubler"' in line
    assert 'provider="CPUExecutionProvider"' in line


def test_a_repository_that_is_the_root_of_a_volume_is_served_with_a_warning(
    doubler_repository: Path, start_server: Start
) -> None:
    (doubler_repository / "lost+found").mkdir(mode=0o700)
    server = start_server(doubler_repository, "--model-control-mode", "poll", "--repository-poll-s", "0.1")
    assert server.fields["ready"]
    said = event(server, "folder passed over")
    assert (said["folder"], said["level"]) == (str(doubler_repository / "lost+found"), "warning")
    assert said["reason"] == "holds no version folder and no config.pbtxt: not a model"


def test_one_models_trouble_at_the_start_is_its_own(
    doubler_repository: Path, start_server: Start, model_writer: Callable[..., Path], connect: Any
) -> None:
    named = model_writer(doubler_repository / "before" / "1" / "model.onnx", rows="ROWS")
    named.write_bytes(named.read_bytes().replace(b"ROWS", b"ROW\xff"))
    endless = model_writer(doubler_repository / "circle" / "1" / "model.onnx").with_name("link")
    endless.symlink_to(endless)
    server = start_server(doubler_repository, "--no-exit-on-error")
    stub = inference_pb2_grpc.GRPCInferenceServiceStub(connect(server))
    index = stub.RepositoryIndex(pb.RepositoryIndexRequest(), timeout=TIMEOUT_S).models
    assert [(each.name, each.state) for each in index] == [
        ("before", "UNAVAILABLE"),
        ("circle", "READY"),
        ("doubler", "READY"),
    ]
    assert "is not UTF-8" in index[0].reason


def test_the_log_says_what_a_session_uses_and_what_it_was_asked_for_in_vain(
    doubler_repository: Path, start_server: Start
) -> None:
    server = start_server(doubler_repository, "--device", "cpu", "--intra-op-threads", "3", "--cuda-graphs")
    loaded = event(server, "model loaded")
    assert (loaded["device_id"], loaded["threads"], loaded["graphs"]) == (None, 3, 0)
    said = event(server, "not as asked")
    assert (said["model"], said["version"], said["level"]) == ("doubler", 1, "warning")
    assert said["reason"] == "CUDA graphs are off: the model is computed on the CPU"


@pytest.mark.parametrize(
    ("args", "shown"),
    [
        pytest.param(["--no-limit-batches"], {"batch_limit": 64}, id="every batch is allowed"),
        pytest.param(
            ["--no-limit-batches", "--batch-buckets", "4,16"], {"batch_limit": 64, "buckets": [4, 16, 64]}, id="buckets"
        ),
    ],
)
def test_the_log_says_how_a_models_requests_are_merged(
    doubler_repository: Path, start_server: Start, args: list[str], shown: dict[str, Any]
) -> None:
    line = event(start_server(doubler_repository, *args), "model loaded")
    assert {key: line[key] for key in ("batch_limit", "buckets") if key in line} == shown
    assert line["one_image_us"] > 0


def test_the_log_names_the_budget_that_ended_the_measuring(doubler_repository: Path, start_server: Start) -> None:
    line = event(start_server(doubler_repository, "--warmup-s", "0"), "model loaded")
    shown = (line["measured_up_to"], line["measuring_ended_by"], line["batch_limit"])
    assert shown == (1, "--warmup-s", 1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_signal_stops_an_idle_server_with_exit_code_zero(
    doubler_repository: Path, start_server: Start, number: signal.Signals
) -> None:
    server = start_server(doubler_repository)
    assert server.stop(number) == 0
    assert event(server, "stopped")["unfinished"] == 0


def test_a_stopping_server_refuses_new_requests_and_finishes_those_that_it_accepted(
    tmp_path: Path,
    write_patient_model: Callable[..., None],
    start_server: Start,
    connect: Any,
    make_request: Any,
    eventually: Callable[..., None],
) -> None:
    """Timeline: 1. seven requests wait, two seconds at most, for an eighth; 2. the server is told to stop; 3. it
    refuses new calls; 4. the seven are answered; 5. the process ends with 0."""
    write_patient_model(tmp_path / "patient", rows=8, delay_s=2)
    server = start_server(tmp_path)
    stub = inference_pb2_grpc.GRPCInferenceServiceStub(connect(server))
    accepted = [stub.ModelInfer.future(make_request("patient", id=str(index))) for index in range(7)]
    eventually(lambda: server.pending() == 7)
    server.process.send_signal(signal.SIGTERM)

    late = inference_pb2_grpc.GRPCInferenceServiceStub(connect(server))

    def is_refused() -> bool:
        try:
            late.ServerLive(pb.ServerLiveRequest(), timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            return error.code() is grpc.StatusCode.UNAVAILABLE
        return False

    eventually(is_refused)
    assert [each.result(TIMEOUT_S).id for each in accepted] == [str(index) for index in range(7)]
    assert server.process.wait(TIMEOUT_S) == 0
    server.stop()
    assert event(server, "stopped")["unfinished"] == 0


def test_a_settling_server_says_that_it_stops_and_still_accepts(
    patient_repository: Path, start_server: Start, connect: Any, make_request: Any, eventually: Callable[..., None]
) -> None:
    """Timeline: 1. seven requests wait for an eighth; 2. the server is told to stop; 3. health and readiness say so;
    4. the eighth is accepted, and all are answered."""
    server = start_server(patient_repository, "--drain-settle-s", HOUR_S)
    channel = connect(server)
    stub, health = inference_pb2_grpc.GRPCInferenceServiceStub(channel), health_pb2_grpc.HealthStub(channel)
    waiting = [stub.ModelInfer.future(make_request("patient")) for _ in range(7)]
    eventually(lambda: server.pending() == 7)
    server.process.send_signal(signal.SIGTERM)
    eventually(lambda: probe(server, "/ready") == 503)
    assert probe(server, "/live") == 200
    assert not stub.ServerReady(pb.ServerReadyRequest()).ready
    for service in ("", "inference.GRPCInferenceService", "patient"):
        assert health.Check(health_pb2.HealthCheckRequest(service=service)).status == NOT_SERVING
    waiting.append(stub.ModelInfer.future(make_request("patient")))
    assert [len(each.result(TIMEOUT_S).outputs) for each in waiting] == [1] * 8


@pytest.mark.parametrize("service", ["", "inference.GRPCInferenceService", "doubler"])
def test_a_watcher_sees_not_serving_and_does_not_hold_up_the_end(
    doubler_repository: Path, start_server: Start, connect: Any, service: str
) -> None:
    """Timeline: 1. a watcher sees SERVING; 2. the server, which would wait an hour for a call, is told to stop; 3. the
    watcher sees NOT_SERVING and the end of its call; 4. the process ends with 0."""
    server = start_server(doubler_repository, "--grace-s", HOUR_S)
    watch = health_pb2_grpc.HealthStub(connect(server)).Watch(health_pb2.HealthCheckRequest(service=service))
    assert next(watch).status == SERVING
    server.process.send_signal(signal.SIGTERM)
    assert [each.status for each in watch] == [NOT_SERVING]
    assert server.process.wait(TIMEOUT_S) == 0


def test_watchers_that_come_and_go_leave_a_server_that_answers_and_ends(
    doubler_repository: Path, start_server: Start, connect: Any, make_request: Any
) -> None:
    """Timeline: 1. a thousand watches are opened and cancelled, 96 at a time and fewer than 200 on a connection, which
    h2corn would take for an attack; 2. the server answers; 3. it is told to stop, and ends."""
    server = start_server(doubler_repository)

    def churn(channel: grpc.Channel) -> None:
        stub = health_pb2_grpc.HealthStub(channel)
        for _ in range(12):
            watches = [stub.Watch(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S) for _ in range(16)]
            assert [next(watch).status for watch in watches] == [SERVING] * 16
            for watch in watches:
                watch.cancel()

    channels = [connect(server, own_connection=True) for _ in range(6)]
    with ThreadPoolExecutor(6) as crowd:
        list(crowd.map(churn, channels))
    channel = connect(server)
    assert (
        health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S).status == SERVING
    )
    stub = inference_pb2_grpc.GRPCInferenceServiceStub(channel)
    assert len(stub.ModelInfer(make_request(), timeout=TIMEOUT_S).outputs) == 1
    assert server.stop() == 0


def test_requests_that_outlast_the_grace_are_cut_off_and_the_exit_code_says_so(
    patient_repository: Path, start_server: Start, connect: Any, make_request: Any, eventually: Callable[..., None]
) -> None:
    server = start_server(patient_repository, "--grace-s", "0.1")
    stub = inference_pb2_grpc.GRPCInferenceServiceStub(connect(server))
    waiting = stub.ModelInfer.future(make_request("patient"))
    eventually(lambda: server.pending() == 1)
    assert server.stop() == 13
    assert waiting.exception(TIMEOUT_S).code() is grpc.StatusCode.UNAVAILABLE
    assert event(server, "stopped")["unfinished"] > 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_second_signal_ends_at_once(
    doubler_repository: Path, start_server: Start, eventually: Callable[..., None], number: signal.Signals
) -> None:
    """Timeline: 1. the server is told to stop, and would settle for an hour; 2. it is told again, and is gone."""
    server = start_server(doubler_repository, "--drain-settle-s", HOUR_S)
    server.process.send_signal(signal.SIGTERM)
    eventually(lambda: probe(server, "/ready") == 503)
    assert server.stop(number) == -number


def test_a_variable_that_kubernetes_sets_for_a_service_is_ignored_with_a_warning(
    doubler_repository: Path, start_server: Start
) -> None:
    server = start_server(doubler_repository, env={"PIXELSERVE_METRICS_PORT": "tcp://10.0.0.1:8002"})
    assert server.stop() == 0
    assert event(server, "environment variable ignored")["variable"] == "PIXELSERVE_METRICS_PORT"
