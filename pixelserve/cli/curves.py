"""Measures a server's curve, for `pixelserve bench --curve` and `pixelserve plan`."""

import sys
from typing import TYPE_CHECKING, Any

from . import terminal
from .exits import CommandError, Exit
from .options import Connection

if TYPE_CHECKING:
    import grpc

    from pixelserve.bench.curve import Curve
    from pixelserve.bench.page import MetricsPage
    from pixelserve.bench.workload import Workload
    from pixelserve.client import ModelVersion
    from pixelserve.client.channel import Configuration

DURATION_S = 2.0
"""Seconds for each number in flight."""
_METRICS_PORT = 8002


def place(configuration: "Configuration", what: str) -> tuple[str, int]:
    """Returns the host and port for the load generator's own HTTP/2, which needs a single server without TLS.

    Raises:
        CommandError: there are several servers, or TLS.
    """
    addresses = ", ".join(endpoint.address for endpoint in configuration.endpoints)
    host, _, port = addresses.rpartition(":")
    if configuration.credentials is not None or "," in addresses or not (port.isascii() and port.isdigit()):
        raise CommandError(f"{what} needs a single server, as HOST:PORT without TLS; got {addresses}", Exit.USAGE)
    return host.strip("[]"), int(port)


def measure(
    connection: Connection, version: "ModelVersion", workload: "Workload", seconds: float, metrics_url: str | None
) -> "Curve":
    """Measures a curve, with progress on stderr."""
    from pixelserve.bench.channels import open_channels
    from pixelserve.bench.curve import Curve, measure_curve
    from pixelserve.bench.overload import Place
    from pixelserve.bench.runs import Runs

    configuration = connection.configuration()
    host, port = place(configuration, "a curve")
    page = _page(host, metrics_url, version, configuration.metadata)
    with open_channels(configuration) as (channel,):
        levels, memory_bytes = measure_curve(
            workload,
            Place(host, port, configuration.metadata),
            seconds=seconds,
            sizes=Runs(channel, version, connection.timeout_s, configuration.metadata).by_size,
            usage=page.usage if page else None,
            say=say_step,
        )
        say_step("")
        sessions = _sessions(channel, version, connection.timeout_s, configuration.metadata)
    return Curve(version.name, version.version, workload.method, workload.images, sessions, levels, memory_bytes)


def _page(host: str, url: str | None, version: "ModelVersion", metadata: Any) -> "MetricsPage | None":
    from pixelserve.bench.errors import BenchError
    from pixelserve.bench.page import MetricsPage

    shown = f"[{host}]" if ":" in host else host
    page = MetricsPage(url or f"http://{shown}:{_METRICS_PORT}/metrics", version.name, version.version, metadata)
    try:
        page.usage()
    except BenchError as error:
        if url:
            raise
        print(
            f"note: {terminal.printable(str(error))}; without --metrics-url, CPU and memory are unknown",
            file=sys.stderr,
        )
        return None
    return page


def _sessions(channel: "grpc.Channel", version: "ModelVersion", timeout_s: float, metadata: Any) -> int:
    """Returns how many runs of the model may be in progress; 1 if the server does not report it."""
    import grpc

    from pixelserve.oip import inference_pb2 as pb

    call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
        "/inference.GRPCInferenceService/ModelConfig"
    )
    request = pb.ModelConfigRequest(name=version.name, version=version.version)
    try:
        answer = call(request.SerializeToString(), timeout=timeout_s, metadata=metadata or None)
    except grpc.RpcError:
        return 1
    groups = pb.ModelConfigResponse.FromString(answer).config.instance_group
    # An empty list of GPUs means the server's default GPU.
    return max(1, sum(max(1, group.count) * max(1, len(group.gpus)) for group in groups))


def say_step(step: str) -> None:
    """Shows the current measurement, on a line that the next one overwrites."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{step}", end="", file=sys.stderr, flush=True)
