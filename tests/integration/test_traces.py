"""Traces of a real server process, with a collector in the test: OTLP over HTTP on loopback."""

import gzip
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from pixelserve.oip import inference_pb2 as pb
from pixelserve.oip import inference_pb2_grpc

TIMEOUT_S = 30
TRACE, OTHER_TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "4bf92f3577b34da6a3ce929d0e0e4736", "b7ad6b7169203331"
INFER = "inference.GRPCInferenceService/ModelInfer"


class Collector:
    """Keeps a server's spans, or hangs."""

    def __init__(self) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        self.headers: list[dict[str, str]] = []
        self.asked = threading.Event()
        """Set when anything was sent."""
        self.lets_go = threading.Event()
        """Senders wait until it is set."""
        self.lets_go.set()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.asked.set()
                collector.lets_go.wait()
                if self.path != "/v1/traces":
                    self.send_error(404)
                    return
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                collector.requests.append(ExportTraceServiceRequest.FromString(body))
                collector.headers.append(dict(self.headers))
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def spans(self) -> list[Span]:
        """Returns all spans that came."""
        return [
            span
            for request in list(self.requests)
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def resource(self) -> dict[str, str]:
        """Returns the server's resource attributes."""
        attributes = self.requests[0].resource_spans[0].resource.attributes
        return {each.key: each.value.string_value for each in attributes}

    def close(self) -> None:
        self.lets_go.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A collector, closed at the end."""
    collector = Collector()
    yield collector
    collector.close()


@pytest.fixture
def start_traced(
    start_server: Callable[..., Any], doubler_repository: Path, collector: Collector
) -> Callable[..., Any]:
    """Starts servers whose spans go to the collector at once."""

    def start(*args: str, endpoint: str = collector.endpoint, env: dict[str, str] | None = None) -> Any:
        soon = {"OTEL_BSP_SCHEDULE_DELAY": "20", "NO_PROXY": "*", **(env or {})}
        return start_server(doubler_repository, "--trace-endpoint", endpoint, *args, env=soon)

    return start


def parent(trace: str = TRACE, *, sampled: bool = True) -> tuple[tuple[str, str], ...]:
    return (("traceparent", f"00-{trace}-{CALLER}-0{int(sampled)}"),)


def by_name(spans: list[Span]) -> dict[str, Span]:
    assert len({span.name for span in spans}) == len(spans), [span.name for span in spans]
    return {span.name: span for span in spans}


def attributes_of(span: Span) -> dict[str, Any]:
    """Returns a span's attributes by name."""
    found = {each.key: each.value for each in span.attributes}
    return {name: getattr(value, str(value.WhichOneof("value"))) for name, value in found.items()}


def linked(span: Span) -> list[bytes]:
    return [link.span_id for link in span.links]


def test_a_request_is_its_callers_child_and_has_its_phases_and_its_run(
    start_traced: Callable[..., Any], collector: Collector, make_request: Any, eventually: Any
) -> None:
    stub = start_traced("--trace-rate", "0").stub()
    stub.ModelInfer(make_request(id="seven"), metadata=parent(), timeout=TIMEOUT_S)
    eventually(lambda: len(collector.spans()) >= 5)
    spans = by_name(collector.spans())
    assert sorted(spans) == ["batch", "compute", INFER, "queue", "run doubler"]
    request, run = spans[INFER], spans["run doubler"]
    assert (request.trace_id.hex(), request.parent_span_id.hex()) == (TRACE, CALLER)
    assert request.kind == Span.SPAN_KIND_SERVER
    assert attributes_of(request) == {
        "rpc.system": "grpc",
        "rpc.service": "inference.GRPCInferenceService",
        "rpc.method": "ModelInfer",
        "rpc.grpc.status_code": 0,
        "pixelserve.via": "grpc",
        "pixelserve.model": "doubler",
        "pixelserve.version": "1",
        "pixelserve.request_id": "seven",
    }
    phases = [spans[name] for name in ("queue", "batch", "compute")]
    assert {(phase.trace_id.hex(), phase.parent_span_id) for phase in phases} == {(TRACE, request.span_id)}
    # One after the other, within the request.
    times = [time for phase in phases for time in (phase.start_time_unix_nano, phase.end_time_unix_nano)]
    assert times == sorted(times)
    assert phases[0].end_time_unix_nano == phases[1].start_time_unix_nano
    assert request.start_time_unix_nano <= times[0]
    assert times[-1] <= request.end_time_unix_nano
    # The run is a separate trace.
    assert (run.parent_span_id, run.trace_id.hex() == TRACE) == (b"", False)
    assert (linked(run), linked(spans["batch"])) == ([request.span_id], [run.span_id])
    assert (run.start_time_unix_nano, run.end_time_unix_nano) == (
        phases[1].start_time_unix_nano,
        phases[2].end_time_unix_nano,
    )
    assert attributes_of(run)["pixelserve.batch.rows"] == 1
    resource = collector.resource()
    assert resource["service.name"] == "pixelserve"


def test_a_run_is_linked_to_all_its_requests(
    start_server: Callable[..., Any],
    tmp_path: Path,
    write_patient_model: Callable[..., None],
    collector: Collector,
    make_request: Any,
    eventually: Any,
) -> None:
    write_patient_model(tmp_path / "repository" / "patient", rows=3)
    env = {"OTEL_BSP_SCHEDULE_DELAY": "20", "NO_PROXY": "*", "OTEL_SERVICE_NAME": "digits"}
    args = ("--trace-endpoint", collector.endpoint, "--trace-rate", "0", "--instance", "pod-1")
    server = start_server(tmp_path / "repository", *args, env=env)
    stub = server.stub()
    asked = [parent(TRACE), (), parent(OTHER_TRACE)]
    calls = [
        stub.ModelInfer.future(make_request("patient"), metadata=metadata, timeout=TIMEOUT_S) for metadata in asked
    ]
    assert [len(call.result().outputs) for call in calls] == [1, 1, 1]
    eventually(lambda: len(collector.spans()) >= 9)
    assert server.stop() == 0
    spans = collector.spans()
    assert len(spans) == 9
    requests = {span.trace_id.hex(): span for span in spans if span.name == INFER}
    (run,) = [span for span in spans if span.name == "run patient"]
    assert set(requests) == {TRACE, OTHER_TRACE}
    assert sorted(linked(run)) == sorted(request.span_id for request in requests.values())
    assert {link.trace_id.hex() for link in run.links} == {TRACE, OTHER_TRACE}
    assert attributes_of(run)["pixelserve.batch.rows"] == 3
    assert [linked(span) for span in spans if span.name == "batch"] == [[run.span_id]] * 2
    resource = collector.resource()
    assert (resource["service.name"], resource["service.instance.id"]) == ("digits", "pod-1")
    assert {event.get("instance") for event in server.events()} == {"pod-1"}


def test_requests_over_http_and_on_streams_belong_to_their_callers_traces(
    start_traced: Callable[..., Any], collector: Collector, make_request: Any, call_http: Any, eventually: Any
) -> None:
    server = start_traced("--trace-rate", "0")
    body = {"inputs": [{"name": "values", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}
    headers = dict(parent(TRACE)) | {"tracestate": "vendor=7"}
    assert call_http(server, "/v2/models/doubler/infer", body, headers).status == 200
    stream = server.stub().ModelStreamInfer(iter([make_request()] * 2), metadata=parent(OTHER_TRACE), timeout=TIMEOUT_S)
    assert len(list(stream)) == 2
    eventually(lambda: len([span for span in collector.spans() if span.name == INFER]) >= 3)
    found = [
        (span.trace_id.hex(), attributes_of(span)["pixelserve.via"], span.trace_state)
        for span in collector.spans()
        if span.name == INFER
    ]
    assert sorted(found) == sorted([(TRACE, "http", "vendor=7"), *[(OTHER_TRACE, "stream", "")] * 2])


@pytest.mark.parametrize(
    ("rate", "metadata", "is_traced"),
    [
        ("1", (), True),
        ("0", (), False),
        ("1", parent(sampled=False), False),
        ("0", parent(), True),
        ("0", (("traceparent", f"00-{'0' * 32}-{CALLER}-01"),), False),
        ("0", (("traceparent", "a trace of mine"),), False),
    ],
    ids=["always", "never", "caller drops it", "caller keeps it", "no trace", "no header of the standard"],
)
def test_the_caller_decides_what_is_traced_and_the_rate_where_it_does_not(
    start_traced: Callable[..., Any], collector: Collector, make_request: Any, rate: str, metadata: Any, is_traced: bool
) -> None:
    server = start_traced("--trace-rate", rate)
    server.stub().ModelInfer(make_request(), metadata=metadata, timeout=TIMEOUT_S)
    # A stopping server sends its remaining spans.
    assert server.stop() == 0
    assert len(collector.spans()) == (5 if is_traced else 0)


def test_a_call_that_fails_says_why_in_its_span(
    start_traced: Callable[..., Any], collector: Collector, make_request: Any
) -> None:
    server = start_traced("--trace-rate", "1")
    stub = server.stub()
    with pytest.raises(grpc.RpcError):
        stub.ModelInfer(make_request("unknown"), timeout=TIMEOUT_S)
    with pytest.raises(grpc.RpcError):
        stub.ModelInfer(make_request("doubler", raw=[b"1"]), timeout=TIMEOUT_S)
    assert server.stop() == 0
    found = [attributes_of(span) for span in collector.spans()]
    assert [(each["rpc.grpc.status_code"], each["pixelserve.reason"], each["pixelserve.model"]) for each in found] == [
        (grpc.StatusCode.NOT_FOUND.value[0], "not_found", "unknown"),
        (grpc.StatusCode.INVALID_ARGUMENT.value[0], "invalid_request", "doubler"),
    ]
    # The caller's fault is none of the server's.
    assert {span.status.code for span in collector.spans()} == {Status.STATUS_CODE_UNSET}


def test_classify_is_traced_and_so_is_what_computes_nothing(
    start_server: Callable[..., Any], collector: Collector, root: Path
) -> None:
    from pixelserve.v1 import classifier_pb2, classifier_pb2_grpc

    env = {"NO_PROXY": "*"}
    server = start_server(root / "models", "--trace-endpoint", collector.endpoint, "--trace-rate", "1", env=env)
    picture = next((root / "examples").rglob("*.png")).read_bytes()
    with grpc.insecure_channel(server.grpc) as channel:
        request = classifier_pb2.ClassifyRequest(model="mnist-cnn", images=[classifier_pb2.Image(encoded=picture)])
        classifier_pb2_grpc.ClassifierStub(channel).Classify(request, timeout=TIMEOUT_S)
        inference_pb2_grpc.GRPCInferenceServiceStub(channel).ServerLive(pb.ServerLiveRequest(), timeout=TIMEOUT_S)
    assert server.stop() == 0
    names = sorted(span.name for span in collector.spans())
    live = "inference.GRPCInferenceService/ServerLive"
    assert names == ["batch", "compute", live, "pixelserve.v1.Classifier/Classify", "queue", "run mnist-cnn"]


def trace_settings(stub: Any, model: str = "", **settings: str) -> dict[str, list[str]]:
    request = pb.TraceSettingRequest(model_name=model)
    for name, value in settings.items():
        request.settings[name].value[:] = [value] if value else []
    answer = stub.TraceSetting(request, timeout=TIMEOUT_S)
    return {name: list(value.value) for name, value in answer.settings.items()}


def test_tracing_is_switched_and_thinned_while_the_server_runs(
    start_traced: Callable[..., Any], collector: Collector, make_request: Any
) -> None:
    server = start_traced("--trace-rate", "1")
    stub = server.stub()
    assert trace_settings(stub) == {
        "trace_level": ["TIMESTAMPS"],
        "trace_rate": ["1"],
        "trace_count": ["-1"],
        "log_frequency": ["0"],
        "trace_file": [""],
        "trace_mode": ["opentelemetry"],
    }
    assert trace_settings(stub, trace_level="OFF", trace_rate="2000000000")["trace_level"] == ["OFF"]
    stub.ModelInfer(make_request(), metadata=parent(), timeout=TIMEOUT_S)
    assert trace_settings(stub, trace_level="")["trace_level"] == ["TIMESTAMPS"]
    stub.ModelInfer(make_request(), timeout=TIMEOUT_S)
    assert trace_settings(stub, trace_rate="")["trace_rate"] == ["1"]
    stub.ModelInfer(make_request(id="last"), timeout=TIMEOUT_S)
    assert server.stop() == 0
    assert [attributes_of(s)["pixelserve.request_id"] for s in collector.spans() if s.name == INFER] == ["last"]
    changes = [event for event in server.events() if event["event"] == "trace settings changed"]
    assert [(event["trace_level"], event["trace_rate"]) for event in changes] == [
        ("OFF", 2_000_000_000),
        ("TIMESTAMPS", 2_000_000_000),
        ("TIMESTAMPS", 1),
    ]


@pytest.mark.parametrize(
    ("model", "asked", "code", "said"),
    [
        ("doubler", {"trace_level": "OFF"}, "UNIMPLEMENTED", "for the whole server, not for model doubler"),
        ("", {"trace_level": "TENSORS"}, "UNIMPLEMENTED", "came as ['TENSORS']; expected [OFF] or [TIMESTAMPS]"),
        ("", {"trace_mode": "triton"}, "UNIMPLEMENTED", "trace_mode is ['opentelemetry'] and cannot be changed"),
        ("", {"trace_file": "/tmp/x"}, "UNIMPLEMENTED", "trace_file is [''] and cannot be changed"),
        ("", {"trace_rate": "often", "trace_level": "OFF"}, "INVALID_ARGUMENT", "expected one whole number"),
        ("", {"trace_colour": "red"}, "INVALID_ARGUMENT", '"trace_colour" is unknown; expected trace_level'),
    ],
)
def test_trace_settings_that_cannot_be_change_nothing(
    start_traced: Callable[..., Any], model: str, asked: dict[str, str], code: str, said: str
) -> None:
    stub = start_traced().stub()
    before = trace_settings(stub)
    with pytest.raises(grpc.RpcError) as caught:
        trace_settings(stub, model, **asked)
    refused: Any = caught.value
    assert (refused.code().name, said in refused.details()) == (code, True), refused.details()
    assert trace_settings(stub) == before


def test_a_collector_that_is_down_affects_no_call_and_the_log_says_so(
    start_traced: Callable[..., Any], collector: Collector, make_request: Any, eventually: Any
) -> None:
    collector.close()
    server = start_traced("--trace-rate", "1")
    stub = server.stub()
    for _ in range(100):
        assert len(stub.ModelInfer(make_request(), timeout=TIMEOUT_S).outputs) == 1

    def complaints() -> list[dict[str, Any]]:
        return [event for event in server.events() if event["event"] == "traces are not sent"]

    eventually(lambda: bool(complaints()), timeout_s=30)
    assert server.stop() == 0
    assert all(event["level"] == "warning" and event["reason"] for event in complaints())
    # Every line of the log is one of ours.
    assert len(server.events()) == len(server.lines)


def test_a_collector_that_hangs_affects_no_call_and_no_stopping_server(
    start_traced: Callable[..., Any], collector: Collector, make_request: Any
) -> None:
    collector.lets_go.clear()
    server = start_traced("--trace-rate", "1")
    stub = server.stub()
    # More spans than are kept for a collector.
    for index in range(1000):
        assert stub.ModelInfer(make_request(id=str(index)), timeout=TIMEOUT_S).id == str(index)
    assert collector.asked.wait(TIMEOUT_S)
    assert server.stop() == 0
    assert collector.requests == []


def test_without_a_collector_nothing_of_it_is_loaded(
    start_server: Callable[..., Any], doubler_repository: Path, make_request: Any
) -> None:
    server = start_server(doubler_repository, env={"PYTHONVERBOSE": "1"})
    server.stub().ModelInfer(make_request(), metadata=parent(), timeout=TIMEOUT_S)
    assert server.stop() == 0
    imported = [line for line in server.lines if line.startswith("import ")]
    assert any("pixelserve_server.app" in line for line in imported)
    assert not [line for line in imported if "opentelemetry" in line]


def test_an_invalid_endpoint_is_refused(failing_serve: Callable[..., Any], doubler_repository: Path) -> None:
    failure = failing_serve("--model-repository", str(doubler_repository), "--trace-endpoint", "localhost:4318")
    assert "--trace-endpoint" in failure.message or "trace_endpoint" in failure.message
