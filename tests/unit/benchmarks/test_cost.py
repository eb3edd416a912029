"""Preconditions of CPU times, and the order of requests and scrapes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.compare import cost, ours, table
from benchmarks.compare.cost import check_counts, read_counts
from benchmarks.compare.errors import ServerError
from benchmarks.compare.figures import COUNTED, UNCOUNTED, Measurement
from benchmarks.compare.process import Server

PAGE = """# TYPE nv_inference_request_success untyped
nv_inference_request_success{model="mnist-cnn",version="1"} 7.0
nv_inference_request_success{model="other",version="1"} 100.0
# TYPE pixelserve_requests_total counter
pixelserve_requests_total{code="OK",method="ModelInfer",reason=""} 9.0
pixelserve_requests_total{code="OK",method="ServerLive",reason=""} 100.0
pixelserve_requests_total{code="INTERNAL",method="ModelInfer",reason="internal"} 100.0
"""


def test_the_page_says_how_many_calls_were_answered_and_how_many_were_counted() -> None:
    assert read_counts(PAGE) == (9, 7)
    assert read_counts("") == (0, 0)


@pytest.mark.parametrize(
    ("server", "after", "complaint"),
    [
        pytest.param(COUNTED, (110, 105), None, id="counts all"),
        pytest.param(UNCOUNTED, (110, 5), None, id="counts nothing"),
        pytest.param(COUNTED, (109, 105), "answered 99 of 100", id="an error that h2load took for an answer"),
        pytest.param(UNCOUNTED, (111, 5), "answered 101 of 100", id="another request"),
        pytest.param(COUNTED, (110, 5), "0 of 100 requests in its figures, not 100", id="counts nothing but should"),
        pytest.param(UNCOUNTED, (110, 105), "100 of 100 requests in its figures, not 0", id="counts but should not"),
    ],
)
def test_a_measurement_stands_only_if_the_server_counted_what_it_should(
    server: str, after: tuple[float, float], complaint: str | None
) -> None:
    if complaint is None:
        check_counts(server, 100, (10, 5), after)
        return
    with pytest.raises(ServerError, match=f"{server}.*{complaint}"):
        check_counts(server, 100, (10, 5), after)


def test_the_parts_take_turns_and_the_page_is_read_every_five_seconds_of_its_servers_load(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now_s, said = 0.0, []

    def send(wanted: Measurement, requests: int) -> None:
        nonlocal now_s
        now_s += 1.7
        said.append((wanted.server, requests))

    monkeypatch.setattr(cost, "time", SimpleNamespace(perf_counter=lambda: now_s))
    monkeypatch.setattr(cost, "_page", lambda server, headers: said.append((server, headers)))
    figure = next(each for each in table.all_figures(cost_requests=5000) if each.group == "metrics")
    counted: Any = "the server with metrics"
    cost._send_in_turn(SimpleNamespace(send=send), counted, figure, 0)
    # 17 s of load: read after 3.4, 8.5 and 13.6 s, which is where the next multiple of 5 s is nearest.
    scrapes = [number for number, (what, _) in enumerate(said) if what == counted]
    assert scrapes == [4, 11, 18]
    servers = [what for what, _ in said if what != counted]
    assert servers == [UNCOUNTED, COUNTED, COUNTED, UNCOUNTED] * 5
    assert {requests for what, requests in said if what != counted} == {500}


def test_cpu_time_is_the_processs_own() -> None:
    before_s = time.process_time()
    cpu_s = Server("this process", 0, os.getpid(), Path("none")).cpu_s()
    assert before_s <= cpu_s <= time.process_time()


def test_cpu_time_includes_what_the_process_started(tmp_path: Path) -> None:
    # 1. The leader of a new session starts a child, as Triton starts the process of its Python backend.
    # 2. The child uses half a second of CPU time, reports it, and keeps running.
    burn = "import time\nwhile time.process_time() < 0.5: pass\nprint(time.process_time(), flush=True); input()"
    lead = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {burn!r}])"
    command = [sys.executable, "-c", lead]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True) as leader:
        try:
            assert leader.stdout is not None
            burnt_s = float(leader.stdout.readline())
            assert 0.5 <= burnt_s <= Server("it", 0, leader.pid, tmp_path).cpu_s()
        finally:
            os.killpg(leader.pid, signal.SIGKILL)


def test_a_server_tells_where_its_metrics_are(tmp_path: Path) -> None:
    log = tmp_path / "log"
    server = Server("it", 1, 1, log)
    log.write_text(
        '{"event": "loading"}\n{"event": "serving", "grpc": "127.0.0.1:1", "metrics": "http://here/metrics"}\n'
    )
    assert ours.metrics_url(server) == "http://here/metrics"
    log.write_text("no server of ours\n")
    with pytest.raises(ServerError, match="expected it to have logged"):
        ours.metrics_url(server)
