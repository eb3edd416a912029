"""Load by h2load: one body, a number of requests in flight, on one or several connections."""

import math
import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .bodies import METHOD, ROOT
from .cores import Cores, tool
from .errors import LoadError

H2LOAD_PACKAGE = "nghttp2-client"


@dataclass(frozen=True)
class Target:
    """Request bodies and where to send them."""

    url: str
    """Where."""
    body: bytes
    """What."""
    headers: Mapping[str, str]
    """Its headers."""
    is_http1: bool = False
    """Whether over HTTP/1.1, with one connection per request in flight; otherwise over HTTP/2."""


def grpc_target(port: int, message: bytes, *, tls: bool = False) -> Target:
    """Returns a ModelInfer call with a gRPC-framed `message`; h2load trusts any certificate."""
    headers = {"content-type": "application/grpc", "te": "trailers"}
    return Target(f"{'https' if tls else 'http'}://127.0.0.1:{port}{METHOD}", message, headers)


@dataclass(frozen=True)
class Load:
    """The result of one measurement of a server."""

    requests_per_s: float
    """Answers per second, after the warm-up."""
    p50_us: float
    """Median time from a request's start to the end of its answer, in microseconds."""
    p99_us: float
    """99th percentile of the same."""
    p999_us: float
    """99.9th percentile of the same."""


# 0: the answer's headers arrived during the warm-up and were not read; the rest arrived later.
_FINE = ("200", "0")


def percentile(values: Sequence[float], percent: float) -> float:
    """Returns the smallest value that at least `percent` of the values do not exceed (nearest rank).

    Raises:
        LoadError: there are no values.
    """
    if not len(values):
        raise LoadError("no request was answered during the measurement")
    # 99.9 % of 1,000 values are 999, not 999.0000000000001.
    rank = max(1, math.ceil(len(values) * percent / 100 - 1e-9))
    return float(np.partition(np.asarray(values), rank - 1)[rank - 1])


def h2load(
    target: Target, in_flight: int, *, connections: int = 1, seconds: float, warm_up_s: float, cores: Cores
) -> Load:
    """Sends one request repeatedly, with `in_flight` requests shared evenly by the connections.

    h2load supports only HTTP: answers with an error in grpc-status count too, so the server is checked with a real
    client first.

    Raises:
        MissingToolError: h2load is not installed.
        LoadError: it failed, or requests failed.
    """
    with tempfile.TemporaryDirectory(prefix="pixelserve-bench-") as place:
        log = Path(place) / "log"
        extent = [f"--warm-up-time={round(warm_up_s * 1000)}ms", f"--duration={round(seconds * 1000)}ms"]
        said = _run(target, (in_flight, connections), cores, [*extent, f"--log-file={log}"])
        return read_report(said, log.read_text())


def send(target: Target, in_flight: int, *, connections: int = 1, requests: int, cores: Cores) -> None:
    """Sends one request `requests` times by h2load, `in_flight` at a time, and waits for all answers.

    Raises:
        MissingToolError: h2load is not installed.
        LoadError: it failed, or requests failed.
    """
    check_answered(_run(target, (in_flight, connections), cores, [f"--requests={requests}"]), requests)


def check_answered(said: str, requests: int) -> None:
    """Raises LoadError unless h2load reports that all `requests` succeeded and none failed."""
    if f" {requests} succeeded, 0 failed, 0 errored, 0 timeout" not in said:
        raise LoadError(f"expected {requests:,} requests to succeed:\n{said}")


def shape(target: Target, in_flight: int, connections: int) -> list[str]:
    """Returns h2load's options for the requests in flight, which `connections` must divide."""
    if target.is_http1:
        return ["--h1", f"-c{in_flight}", "-m1"]
    return [f"-c{connections}", f"-m{in_flight // connections}"]


def _run(target: Target, load: tuple[int, int], cores: Cores, extent: Sequence[str]) -> str:
    """Returns h2load's output; `load` is requests in flight and connections."""
    command = [*cores.pin_load(), tool("h2load", H2LOAD_PACKAGE), "-t1", *shape(target, *load), *extent]
    for name, value in target.headers.items():
        command += ["-H", f"{name}: {value}"]
    with tempfile.NamedTemporaryFile(prefix="pixelserve-bench-") as data:
        data.write(target.body)
        data.flush()
        command += [f"--data={data.name}", target.url]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise LoadError(f"h2load failed with exit code {done.returncode}:\n{done.stderr}{done.stdout}")
    return done.stdout


def read_report(said: str, log: str) -> Load:
    """Returns h2load's results: the rate from its output, the percentiles from its log of all requests.

    Raises:
        LoadError: some requests failed, or the output has no rate.
    """
    rate = re.search(r"^finished in [\d.]+\w+, ([\d.]+) req/s", said, re.MULTILINE)
    bad = re.search(r"(\d+) failed, (\d+) errored, (\d+) timeout", said)
    if rate is None or bad is None:
        raise LoadError(f"h2load reported no figures:\n{said}")
    lines = [line.split("\t") for line in log.splitlines()]
    if any(int(count) for count in bad.groups()) or any(status not in _FINE for _, status, _ in lines):
        raise LoadError(f"requests failed:\n{said}")
    latencies_us = [int(duration_us) for _, _, duration_us in lines]
    return Load(float(rate[1]), *(percentile(latencies_us, percent) for percent in (50, 99, 99.9)))


def h2load_version() -> str:
    """Returns h2load's name and version."""
    return subprocess.run(
        [tool("h2load", H2LOAD_PACKAGE), "--version"], check=True, capture_output=True, text=True
    ).stdout.strip()
