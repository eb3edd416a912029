"""`pixelserve bench --curve`: the evaluation of its measurements."""

import statistics
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest

from pixelserve.bench.curve import BANDS, Curve, Level, alone, bands
from pixelserve.bench.errors import BenchError
from pixelserve.bench.flood import Flood
from pixelserve.bench.page import MetricsPage
from pixelserve.capacity.curve import MeasuredCurve

PAGE = """# TYPE process_cpu_seconds_total counter
process_cpu_seconds_total 12.5
process_resident_memory_bytes 2.5e+08
nv_inference_count{model="digits",version="1"} 3.0
"""


def level(in_flight: int, sizes: dict[int, tuple[int, int]], cpu_s: float | None = 0.001) -> Level:
    return Level(in_flight, 800.0, 2.0, cpu_s, [[0.001, 0.002, 0.004]], sizes)


def curve(*levels: Level) -> Curve:
    return Curve("digits", "1", "/inference.GRPCInferenceService/ModelInfer", 1, 1, levels, None)


@pytest.mark.parametrize("count", [1, 7, 1000, 12_345])
def test_bands_keep_the_mean_and_go_from_fast_to_slow(count: int) -> None:
    latencies_s = [0.001 + number / 1e6 for number in range(count)]
    found = bands(latencies_s)
    assert [share for share, _ in found] == list(BANDS)
    assert [mean_s for _, mean_s in found] == sorted(mean_s for _, mean_s in found)
    mean_s = sum(share * mean_s for share, mean_s in found)
    assert mean_s == pytest.approx(statistics.fmean(latencies_s), rel=0.02 if count > 100 else 0.1)


def test_a_stall_in_one_slice_is_left_out_of_a_lone_requests_spread() -> None:
    quiet, stalled = [0.001] * 200, [*[0.001] * 199, 0.5]
    assert alone([quiet, stalled, quiet]) == alone([quiet]) == [(share, pytest.approx(0.001)) for share in BANDS]
    assert alone([stalled, stalled, quiet])[-1][1] == pytest.approx(0.5)


def test_a_size_with_few_runs_is_not_a_limit() -> None:
    found = curve(level(1, {1: (100, 10)}), level(64, {4: (1000, 10), 8: (10, 10)}))
    assert found.largest_run == 4


def test_what_is_written_is_what_plan_reads() -> None:
    found = curve(level(1, {1: (100, 10)}), level(64, {2: (1000, 10)}, cpu_s=None))
    read = MeasuredCurve.of(found.as_json())
    assert read.levels == ((800.0, 2.0, 0.001), (800.0, 2.0, None))
    assert (read.model, read.largest_run, read.memory_bytes) == ("digits", 2, None)


@pytest.mark.parametrize(("cpu_s", "noted"), [(0.001, True), (0.00125, False), (None, False)])
def test_a_server_that_shared_its_cores_is_noted(cpu_s: float | None, noted: bool) -> None:
    text = "\n".join(curve(level(64, {2: (10, 10)}, cpu_s)).lines())
    assert ("something else used its cores" in text) == noted


class Sent(Flood):
    """Keeps when each request was due, and sends nothing."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.due_s: list[tuple[float, float]] = []
        super().__init__([], lambda: self.now_s)

    def _send(self, due_s: float) -> None:
        self.due_s.append((due_s, self.now_s))

    def _turn(self, wait_s: float, ended: Any) -> None:
        self.now_s += max(wait_s, 1e-4)


def test_requests_are_sent_at_their_moments() -> None:
    flood = Sent()
    flood.due([0.0, 0.0005, 0.0005, 0.3], 0.5)
    assert [due_s for due_s, _ in flood.due_s] == pytest.approx([100.0, 100.0005, 100.0005, 100.3])
    assert all(due_s <= sent_s <= due_s + 0.0002 for due_s, sent_s in flood.due_s)


@pytest.fixture
def page() -> Iterator[tuple[str, list[str]]]:
    """A server of `PAGE`, and the tokens that it was sent."""
    tokens: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            tokens.append(self.headers.get("authorization", ""))
            self.send_response(200 if self.path == "/metrics" else 404)
            self.end_headers()
            self.wfile.write(PAGE.encode())

        def log_message(self, *_: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", tokens
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.slow
def test_the_page_tells_of_time_and_memory_and_is_asked_with_the_token(page: tuple[str, list[str]]) -> None:
    url, tokens = page
    usage = MetricsPage(f"{url}/metrics", "digits", "1", [("authorization", "Bearer t")]).usage()
    assert (usage.cpu_s, usage.memory_bytes) == (12.5, 250_000_000)
    assert tokens == ["Bearer t"]
    with pytest.raises(BenchError, match="no metrics of the measured model"):
        MetricsPage(f"{url}/metrics", "digits", "2").usage()
    with pytest.raises(BenchError, match="cannot be read: HTTP Error 404"):
        MetricsPage(f"{url}/other", "digits", "1").usage()
