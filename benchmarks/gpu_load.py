"""A server process under load, and its own count of images/s."""

import json
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixelserve.oip import inference_pb2 as pb

_WARM_UP_S = 1.0
_TIMEOUT_S = 60.0
# Longer than any measurement; load generators stop with the measurement.
_LOAD_S = 600
_METHOD = "inference.GRPCInferenceService/ModelInfer"
_MAX_PROCESSES = 8
_DATATYPES = {"uint8": "UINT8", "float32": "FP32"}


@dataclass(frozen=True)
class Server:
    """A running server."""

    grpc: str
    """Its address, host:port."""
    metrics: str
    """The URL of its metrics."""


@contextmanager
def running_server(repository: Path, *options: str) -> Iterator[Server]:
    """Runs a server like a user, on free ports, until the block ends."""
    command = [sys.executable, "-m", "pixelserve", "serve", "--model-repository", str(repository)]
    command += ["--no-http", "--grpc-port", "0", "--metrics-port", "0", *options]
    with tempfile.TemporaryFile("w+") as log, subprocess.Popen(command, stderr=log, text=True) as process:
        try:
            yield _wait_for_start(process, log)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait_for_start(process: subprocess.Popen[str], log: Any) -> Server:
    end_s = time.monotonic() + _TIMEOUT_S
    while time.monotonic() < end_s:
        has_ended = process.poll() is not None
        log.seek(0)
        lines = log.read().splitlines()
        for line in lines:
            if '"event": "serving"' in line:
                event = json.loads(line)
                return Server(event["grpc"], event["metrics"])
        if has_ended:
            sys.exit("the server did not start: " + (lines or ["it said nothing"])[-1])
        time.sleep(0.05)
    sys.exit(f"the server was not serving after {_TIMEOUT_S:.0f} s")


def generator() -> str:
    """Returns the load generator: h2load if installed, because one Python process is slower."""
    return "h2load" if shutil.which("h2load") else "pixelserve bench"


def measure_server(server: Server, model: str, inputs: Mapping[str, Any], in_flight: int, seconds: float) -> float:
    """Returns a server's images/s answered with OK, by its own count.

    A generator would count HTTP answers, in which h2load does not see gRPC errors, and several processes would not
    count the same interval.

    Args:
        server: the server.
        model: the model's name.
        inputs: tensors of one request.
        in_flight: requests in flight.
        seconds: duration, after a second of the same load.
    """
    with _load(server, model, inputs, in_flight):
        before = _count(server, model)
        _wait_for_more(server, model, before[0])
        time.sleep(_WARM_UP_S)
        start, start_s = _count(server, model), time.perf_counter()
        time.sleep(seconds)
        end, took_s = _count(server, model), time.perf_counter() - start_s
    if end[1] != before[1]:
        sys.exit(f"{end[1] - before[1]:,.0f} requests failed at {in_flight} in flight; the rate is not meaningful")
    return (end[0] - start[0]) / took_s


@contextmanager
def _load(server: Server, model: str, inputs: Mapping[str, Any], in_flight: int) -> Iterator[None]:
    """Keeps `in_flight` requests in flight."""
    with tempfile.TemporaryDirectory() as folder:
        body = Path(folder) / "request"
        body.write_bytes(_framed(_request(model, inputs)))
        rows = len(next(iter(inputs.values())))
        is_h2load = generator() == "h2load"
        commands = (
            [h2load_command(server.grpc, body, in_flight)]
            if is_h2load
            else bench_commands(server.grpc, model, rows, in_flight)
        )
        processes = [
            subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for command in commands
        ]
        try:
            yield
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait(_TIMEOUT_S)


def h2load_command(address: str, body: Path, in_flight: int) -> list[str]:
    """Returns the command that keeps `in_flight` requests with one body in flight, over a few connections."""
    clients = _divisor(in_flight)
    return [
        *("h2load", f"--clients={clients}", f"--threads={min(clients, 4)}"),
        *(f"--max-concurrent-streams={in_flight // clients}", f"--duration={_LOAD_S}", f"--data={body}"),
        *("--header=content-type: application/grpc", "--header=te: trailers"),
        f"http://{address}/{_METHOD}",
    ]


def bench_commands(address: str, model: str, rows: int, in_flight: int) -> list[list[str]]:
    """Returns the commands that together keep `in_flight` requests in flight, each in its own process."""
    processes = _divisor(in_flight)
    command = [sys.executable, "-m", "pixelserve", "bench", "--address", address, "--model", model, "--method", "infer"]
    command += ["--batch", str(rows), "--concurrency", str(in_flight // processes), "--duration-s", str(_LOAD_S)]
    return [command] * processes


def _divisor(in_flight: int) -> int:
    """Returns the largest number of generators with an equal number of requests each."""
    return max(count for count in range(1, _MAX_PROCESSES + 1) if in_flight % count == 0)


def _request(model: str, inputs: Mapping[str, Any]) -> bytes:
    request = pb.ModelInferRequest(model_name=model)
    for name, array in inputs.items():
        request.inputs.add(name=name, datatype=_DATATYPES[array.dtype.name], shape=array.shape)
        request.raw_input_contents.append(array.tobytes())
    return bytes(request.SerializeToString())


def _framed(message: bytes) -> bytes:
    """Returns a message framed for gRPC: uncompressed, with a length prefix."""
    return struct.pack(">?I", False, len(message)) + message


def _wait_for_more(server: Server, model: str, count: float) -> None:
    end_s = time.monotonic() + _TIMEOUT_S
    while _count(server, model)[0] <= count:
        if time.monotonic() > end_s:
            sys.exit(f"the server answered no request within {_TIMEOUT_S:.0f} s")
        time.sleep(0.02)


def _count(server: Server, model: str) -> tuple[float, float]:
    """Returns the number of images that a server has computed for a model, and of failed requests."""
    with urllib.request.urlopen(server.metrics, timeout=_TIMEOUT_S) as page:
        text = page.read().decode()
    images, failed = (
        sum(float(value) for value in re.findall(rf'^{name}{{[^}}]*model="{model}"[^}}]*}} (\S+)$', text, re.MULTILINE))
        for name in ("nv_inference_count", "nv_inference_request_failure")
    )
    return images, failed
