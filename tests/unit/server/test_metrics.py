"""The metrics page: Triton's exact names, their values, and the probes beside it."""

import re
import socket
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from pixelserve_server.engine.curve import LatencyCurve
from pixelserve_server.engine.run import BatchRecord
from pixelserve_server.errors import Cancelled, DeadlineExceeded, StartupError
from pixelserve_server.failures import FailureLog
from pixelserve_server.observe.metrics import Metrics
from pixelserve_server.observe.port import MetricsServer
from pixelserve_server.observe.statistics import BATCH_ROWS, PHASE_SECONDS, REQUEST_SECONDS, VersionStats

TRITON_NAMES = {
    "nv_inference_request_success",
    "nv_inference_request_failure",
    "nv_inference_count",
    "nv_inference_exec_count",
    "nv_inference_request_duration_us",
    "nv_inference_queue_duration_us",
    "nv_inference_compute_input_duration_us",
    "nv_inference_compute_infer_duration_us",
    "nv_inference_compute_output_duration_us",
    "nv_inference_pending_request_count",
    "nv_model_load_duration_secs",
}
OPENMETRICS = "application/openmetrics-text; version=1.0.0"
FORMATS = {"text": ("text/plain", parse_text), "OpenMetrics": (OPENMETRICS, parse_openmetrics)}
MODEL = {"model": "digits", "version": "3"}

Serve = Callable[..., str]


@pytest.fixture
def metrics() -> Metrics:
    """Metrics of one loaded version, digits 3, in front of which four requests wait."""
    metrics = Metrics()
    metrics.observer("digits", 3)
    metrics.loaded(
        "digits",
        3,
        provider="CPUExecutionProvider",
        engine="onnxruntime+openvino",
        precision="float32+bfloat16",
        verified=True,
        load_s=1.5,
        batch_limit=lambda: 16,
        row_state=lambda: "independent",
        queue_limit=100,
        curve=LatencyCurve((1, 8), (50_000, 250_000)),
    )
    metrics.register_queue("digits", 3, lambda: 4)
    return metrics


def batch(*request_ms: float, rows: int = 1, padding: int = 0, waiting: int = 1, failed: bool = False) -> BatchRecord:
    """Returns a run whose requests took so long; its phases took 10, 20 and 30 us of that."""
    done_ns = 10**12
    return BatchRecord(
        rows=rows,
        arrived_ns=[done_ns - int(each * 1e6) for each in request_ms],
        started_ns=done_ns - 60_000,
        assembled_ns=done_ns - 50_000,
        computed_ns=done_ns - 30_000,
        done_ns=done_ns,
        padding=padding,
        waiting=waiting,
        failed=failed,
    )


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serves metrics on a free loopback port and returns the address."""
    servers: list[MetricsServer] = []

    def start(metrics: Metrics, *, ready: Callable[[], bool] = lambda: True) -> str:
        servers.append(MetricsServer(metrics, ready, FailureLog(None)))
        return "http://" + servers[-1].bind("127.0.0.1", 0)

    yield start
    for server in servers:
        server.close()


def get(url: str, accept: str = "*/*") -> tuple[int, str, str]:
    """Returns a page's status, content type and text."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers={"Accept": accept}), timeout=10) as page:
            return page.status, page.headers["Content-Type"], page.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Content-Type"], error.read().decode()


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, {**MODEL, **labels})


@pytest.mark.parametrize("kind", FORMATS)
def test_the_page_has_tritons_exact_names_in_every_format(metrics: Metrics, serve: Serve, kind: str) -> None:
    accept, parse = FORMATS[kind]
    status, content_type, page = get(serve(metrics) + "/metrics", accept)
    assert status == 200
    assert content_type.startswith(accept.split(";")[0])
    samples = {sample.name for family in parse(page) for sample in family.samples}
    assert {name for name in samples if name.startswith("nv_")} == TRITON_NAMES
    # The parsers forgive some suffixes; a dashboard does not.
    written = set(re.findall(r"^(nv_\w+)\{", page, re.MULTILINE))
    assert written == TRITON_NAMES


@pytest.mark.parametrize("kind", FORMATS)
def test_every_sample_of_a_version_carries_model_and_version(metrics: Metrics, serve: Serve, kind: str) -> None:
    accept, parse = FORMATS[kind]
    _, _, page = get(serve(metrics) + "/metrics", accept)
    of_the_server = (
        "process_",
        "pixelserve_threads",
        "pixelserve_gpu_required",
        "pixelserve_requests",
        "pixelserve_model_load",
        "pixelserve_model_last_load",
    )
    families = [family for family in parse(page) if not family.name.startswith(of_the_server)]
    samples = [sample for family in families for sample in family.samples]
    assert len(families) > 20
    assert all(sample.labels["model"] == "digits" and sample.labels["version"] == "3" for sample in samples)


def test_every_family_explains_itself(metrics: Metrics) -> None:
    assert [family.name for family in metrics.collect() if not family.documentation] == []


def test_a_version_that_has_done_nothing_has_zeros(metrics: Metrics) -> None:
    for name in TRITON_NAMES - {"nv_inference_pending_request_count", "nv_model_load_duration_secs"}:
        reasons = [{"reason": each} for each in ("BACKEND", "CANCELED", "REJECTED")]
        for labels in reasons if name == "nv_inference_request_failure" else [{}]:
            assert value(metrics, name, **labels) == 0, name


# Both requests took 2 ms, the phases of their run 60 us of that.
PHASES = {"queue": 0.00194, "assembly": 10e-6, "compute": 20e-6, "reply": 30e-6}


@pytest.mark.parametrize(("phase", "took_s"), PHASES.items())
def test_every_phase_has_a_histogram(metrics: Metrics, phase: str, took_s: float) -> None:
    metrics.observer("digits", 3).on_batch(batch(2, 2, rows=5))
    name = f"pixelserve_{phase}_duration_seconds"
    # Requests wait one by one; all else is done once for a run.
    runs = 2 if phase == "queue" else 1
    assert value(metrics, f"{name}_count") == runs
    assert value(metrics, f"{name}_sum") == pytest.approx(took_s * runs)
    below = max((bound for bound in PHASE_SECONDS if bound < took_s), default=None)
    assert below is None or value(metrics, f"{name}_bucket", le=str(below)) == 0
    assert value(metrics, f"{name}_bucket", le="5.0") == runs


def test_padding_queue_lengths_and_buckets_are_counted(metrics: Metrics) -> None:
    stats = metrics.observer("digits", 3)
    stats.on_batch(batch(2, 3, rows=5, padding=3, waiting=9))
    stats.on_batch(batch(2, rows=8, waiting=1))
    stats.on_batch(batch(2, rows=8, failed=True))
    assert value(metrics, "pixelserve_batch_padding_rows_bucket", le="0") == 1
    assert value(metrics, "pixelserve_batch_padding_rows_sum") == 3
    assert value(metrics, "pixelserve_queue_length_bucket", le="8") == 1
    assert value(metrics, "pixelserve_queue_length_bucket", le="16") == 2
    assert value(metrics, "pixelserve_bucket_runs_total", batch_size="8") == 2
    assert value(metrics, "pixelserve_bucket_compute_seconds_total", batch_size="8") == pytest.approx(40e-6)


def test_calls_are_counted_by_method_code_and_reason(metrics: Metrics) -> None:
    infer = "/inference.GRPCInferenceService/ModelInfer"
    metrics.register_calls(lambda: {infer: 7}, lambda: {(infer, "RESOURCE_EXHAUSTED", "queue_full"): 2})

    def calls(code: str, reason: str) -> float | None:
        labels = {"method": "ModelInfer", "code": code, "reason": reason}
        return metrics.registry.get_sample_value("pixelserve_requests_total", labels)

    assert (calls("OK", ""), calls("RESOURCE_EXHAUSTED", "queue_full")) == (7, 2)


def test_loads_and_failures_are_counted_by_model(metrics: Metrics) -> None:
    metrics.load_failed("digits", 3)
    for name, count in (("pixelserve_model_loads_total", 1), ("pixelserve_model_load_failures_total", 1)):
        assert metrics.registry.get_sample_value(name, {"model": "digits"}) == count


def test_a_version_that_could_not_be_loaded_leaves_no_row_of_zeros(metrics: Metrics) -> None:
    metrics.observer("digits", 4)
    assert value(metrics, "nv_inference_count", version="4") == 0
    metrics.load_failed("digits", 4)
    assert value(metrics, "nv_inference_count", version="4") is None


def test_a_version_that_serves_counts_on_where_a_newer_file_of_it_cannot_be_loaded(metrics: Metrics) -> None:
    metrics.observer("digits", 3).on_batch(batch(1))
    metrics.observer("digits", 3)
    metrics.load_failed("digits", 3)
    assert value(metrics, "nv_inference_count") == 1


def test_the_process_is_measured(metrics: Metrics) -> None:
    for name in ("process_resident_memory_bytes", "process_cpu_seconds_total", "pixelserve_threads"):
        assert (metrics.registry.get_sample_value(name) or 0) > 0


def test_batches_add_up(metrics: Metrics) -> None:
    stats = metrics.observer("digits", 3)
    stats.on_batch(batch(2, 3, rows=5))
    stats.on_batch(batch(4, rows=1))
    assert {
        name: value(metrics, f"nv_inference_{name}")
        for name in (
            "request_success",
            "count",
            "exec_count",
            "request_duration_us",
            "queue_duration_us",
            "compute_input_duration_us",
            "compute_infer_duration_us",
            "compute_output_duration_us",
        )
    } == {
        "request_success": 3,
        "count": 6,
        "exec_count": 2,
        "request_duration_us": 9000,
        "queue_duration_us": 9000 - 3 * 60,
        # A request's share of a batch is all of it.
        "compute_input_duration_us": 30,
        "compute_infer_duration_us": 60,
        "compute_output_duration_us": 90,
    }


def test_versions_are_counted_apart(metrics: Metrics) -> None:
    metrics.observer("digits", 4).on_batch(batch(1))
    assert value(metrics, "nv_inference_count") == 0
    assert value(metrics, "nv_inference_count", version="4") == 1


def test_failures_are_counted_by_tritons_reasons(metrics: Metrics) -> None:
    stats = metrics.observer("digits", 3)
    stats.on_batch(batch(1, 1, 1, rows=7, failed=True))
    stats.on_dropped(Cancelled(), 5_000)
    stats.on_dropped(DeadlineExceeded(), 5_000)
    stats.on_dropped(DeadlineExceeded(), 5_000)
    counted = {
        reason: value(metrics, "nv_inference_request_failure", reason=reason)
        for reason in ("BACKEND", "CANCELED", "REJECTED")
    }
    assert counted == {"BACKEND": 3, "CANCELED": 1, "REJECTED": 2}
    assert value(metrics, "nv_inference_request_success") == 0
    assert value(metrics, "nv_inference_count") == 0
    assert value(metrics, "nv_inference_request_duration_us") == 0


def test_the_queue_the_load_and_the_provider_are_shown(metrics: Metrics) -> None:
    assert value(metrics, "nv_inference_pending_request_count") == 4
    assert value(metrics, "nv_model_load_duration_secs") == 1.5
    computes = {"provider": "CPUExecutionProvider", "engine": "onnxruntime+openvino", "precision": "float32+bfloat16"}
    assert value(metrics, "pixelserve_model_info", **computes, verified="true") == 1


def test_a_version_that_is_not_loaded_shows_counters_and_nothing_that_loading_tells() -> None:
    metrics = Metrics()
    metrics.observer("digits", 3)
    samples = {sample.name for family in metrics.collect() for sample in family.samples}
    assert not samples & {"pixelserve_model_info", "pixelserve_batch_limit", "pixelserve_measured_run_seconds"}
    assert {"nv_inference_count", "pixelserve_worker_restarts_total"} <= samples


def test_the_run_times_measured_at_load_are_shown_by_batch_size(metrics: Metrics) -> None:
    shown = {size: value(metrics, "pixelserve_measured_run_seconds", batch_size=size) for size in ("1", "8", "16")}
    assert shown == {"1": 50e-6, "8": 250e-6, "16": None}


def test_the_batch_limit_in_use_is_shown(metrics: Metrics) -> None:
    assert value(metrics, "pixelserve_batch_limit") == 16


@pytest.mark.parametrize(
    ("name", "happen"),
    [
        pytest.param("pixelserve_worker_restarts_total", VersionStats.on_worker_restarted, id="a dead worker"),
        pytest.param("pixelserve_session_rebuilds_total", VersionStats.on_session_rebuilt, id="a bad session"),
    ],
)
def test_repairs_are_counted(metrics: Metrics, name: str, happen: Callable[[VersionStats], None]) -> None:
    assert value(metrics, name) == 0
    for _ in range(2):
        happen(metrics.statistics("digits", 3))
    assert value(metrics, name) == 2


def test_rows_of_padding_are_counted_apart_from_rows_of_requests(metrics: Metrics) -> None:
    stats = metrics.statistics("digits", 3)
    stats.on_batch(batch(1, rows=5, padding=3))
    stats.on_batch(batch(1, rows=8))
    stats.on_batch(batch(1, rows=6, padding=2, failed=True))
    assert value(metrics, "pixelserve_padding_rows_total") == 3
    assert value(metrics, "nv_inference_count") == 13


@pytest.mark.parametrize(
    ("name", "bounds", "observed", "total"),
    [
        pytest.param("pixelserve_request_duration_seconds", REQUEST_SECONDS, [0.001, 0.001, 0.1, 6.0], 6.102, id="s"),
        pytest.param("pixelserve_batch_rows", BATCH_ROWS, [1, 1, 7, 1000], 1009, id="rows"),
    ],
)
def test_histograms_are_cumulative(
    metrics: Metrics, name: str, bounds: tuple[float, ...], observed: list[float], total: float
) -> None:
    stats = metrics.observer("digits", 3)
    for each in observed:
        stats.on_batch(batch(each * 1000) if name.endswith("seconds") else batch(1, rows=int(each)))
    counts = {bound: value(metrics, f"{name}_bucket", le=str(bound)) for bound in bounds}
    assert counts == {bound: sum(each <= bound for each in observed) for bound in bounds}
    assert value(metrics, f"{name}_bucket", le="+Inf") == len(observed)
    assert value(metrics, f"{name}_count") == len(observed)
    assert value(metrics, f"{name}_sum") == pytest.approx(total)


def test_bounds_of_histograms_rise() -> None:
    for bounds in (REQUEST_SECONDS, BATCH_ROWS):
        assert list(bounds) == sorted(set(bounds))


@pytest.mark.parametrize(
    ("path", "ready", "status", "text"),
    [
        pytest.param("/live", True, 200, "live\n", id="live and ready"),
        pytest.param("/live", False, 200, "live\n", id="live and not ready"),
        pytest.param("/ready", True, 200, "ready: true\n", id="ready"),
        pytest.param("/ready", False, 503, "ready: false\n", id="not ready"),
        pytest.param("/", True, 404, "here are /metrics, /live and /ready\n", id="another path"),
    ],
)
def test_the_probes_answer(metrics: Metrics, serve: Serve, path: str, ready: bool, status: int, text: str) -> None:
    found, content_type, page = get(serve(metrics, ready=lambda: ready) + path)
    assert (found, content_type, page) == (status, "text/plain; charset=utf-8", text)


def test_readiness_is_checked_for_every_probe(metrics: Metrics, serve: Serve) -> None:
    states = [False, True, False]
    address = serve(metrics, ready=lambda: states.pop(0))
    assert [get(address + "/ready")[0] for _ in range(3)] == [503, 200, 503]


def test_a_port_in_use_is_an_error_that_names_it_and_the_remedy(metrics: Metrics) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StartupError, match=rf"127\.0\.0\.1:{port} for metrics: .*in use.*--metrics-port"):
            MetricsServer(metrics, lambda: True, FailureLog(None)).bind("127.0.0.1", port)


def test_a_host_that_does_not_exist_is_an_error_that_names_it_and_the_remedy(metrics: Metrics) -> None:
    with pytest.raises(StartupError, match=r"192\.0\.2\.1:0 for metrics: .*--host"):
        MetricsServer(metrics, lambda: True, FailureLog(None)).bind("192.0.2.1", 0)


def test_a_closed_server_accepts_no_connections_and_frees_its_port(metrics: Metrics) -> None:
    server = MetricsServer(metrics, lambda: True, FailureLog(None))
    port = int(server.bind("127.0.0.1", 0).rpartition(":")[2])
    server.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=10)
    with socket.create_server(("127.0.0.1", port)):
        pass


def test_closing_without_listening_is_not_an_error(metrics: Metrics) -> None:
    MetricsServer(metrics, lambda: True, FailureLog(None)).close()
