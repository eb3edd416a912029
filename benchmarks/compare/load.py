"""Load by h2load: one connection, one body, as many requests in flight as asked for."""

import re
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .bodies import METHOD, ROOT
from .cores import Cores, tool
from .errors import LoadError

H2LOAD_PACKAGE = "nghttp2-client"


@dataclass(frozen=True)
class Load:
    """What one measurement of a server gave."""

    requests_per_s: float
    """Answers a second, after the warm-up."""
    p50_us: float
    """Median time from a request's start to the end of its answer, in microseconds."""
    p99_us: float
    """99th percentile of the same."""


# 0: the head of the answer came while it warmed up, and was not looked at; the rest came after that.
_FINE = ("200", "0")


def percentile(values: Sequence[float], percent: float) -> float:
    """Returns the smallest value that at least `percent` of the values do not exceed (nearest rank).

    Raises:
        LoadError: there are no values.
    """
    if not len(values):
        raise LoadError("no request was answered in the time of the measurement")
    return float(np.percentile(np.asarray(values), percent, method="inverted_cdf"))


def h2load(port: int, body: bytes, in_flight: int, *, seconds: float, warm_up_s: float, cores: Cores) -> Load:
    """Sends one gRPC message over and over, `in_flight` requests at a time.

    h2load knows HTTP only: an answer whose grpc-status is an error counts as well, so the server is asked with a real
    client first.

    Raises:
        MissingToolError: h2load is not installed.
        LoadError: it failed, or requests failed.
    """
    with tempfile.TemporaryDirectory(prefix="pixelserve-bench-") as place:
        data, log = Path(place) / "body", Path(place) / "log"
        data.write_bytes(body)
        command = [*cores.pin_load(), tool("h2load", H2LOAD_PACKAGE), "-t1", "-c1", f"-m{in_flight}"]
        command += [f"--warm-up-time={round(warm_up_s * 1000)}ms", f"--duration={round(seconds * 1000)}ms"]
        command += [f"--data={data}", f"--log-file={log}", "-H", "content-type: application/grpc", "-H", "te: trailers"]
        done = subprocess.run([*command, f"http://127.0.0.1:{port}{METHOD}"], cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            raise LoadError(f"h2load failed with exit code {done.returncode}:\n{done.stderr}{done.stdout}")
        return read_report(done.stdout, log.read_text())


def read_report(said: str, log: str) -> Load:
    """Returns what h2load measured: the rate from what it said, the percentiles from its log of all requests.

    Raises:
        LoadError: some requests failed, or it said nothing that looks like a rate.
    """
    rate = re.search(r"^finished in [\d.]+\w+, ([\d.]+) req/s", said, re.MULTILINE)
    bad = re.search(r"(\d+) failed, (\d+) errored, (\d+) timeout", said)
    if rate is None or bad is None:
        raise LoadError(f"h2load gave no figures:\n{said}")
    lines = [line.split("\t") for line in log.splitlines()]
    if any(int(count) for count in bad.groups()) or any(status not in _FINE for _, status, _ in lines):
        raise LoadError(f"requests failed:\n{said}")
    latencies_us = [int(duration_us) for _, _, duration_us in lines]
    return Load(float(rate[1]), percentile(latencies_us, 50), percentile(latencies_us, 99))


def h2load_version() -> str:
    """Returns what h2load calls itself."""
    return subprocess.run(
        [tool("h2load", H2LOAD_PACKAGE), "--version"], check=True, capture_output=True, text=True
    ).stdout.strip()
