"""`pixelserve bench`: measures a server under load."""

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pixelserve.imaging.files import Finder

from . import curves, extras, pictures, terminal
from .exits import CommandError, Exit
from .options import Connection, with_connection

if TYPE_CHECKING:
    from pixelserve.bench.curve import Curve
    from pixelserve.bench.loops import Extent
    from pixelserve.bench.measure import Load
    from pixelserve.bench.overload import OverloadReport
    from pixelserve.bench.report import Report
    from pixelserve.bench.workload import Workload
    from pixelserve.client import ModelVersion

_DURATION_S = 10.0
_CONCURRENCY = 32
_EPILOG = """The highest rate, with 32 requests in flight for ten seconds; pixels are generated:

\b
  pixelserve bench --model mnist-cnn
  pixelserve bench --model mnist-cnn --concurrency 8 --batch 32 --images scans/

Users' waiting times at 500 requests per second. Latency counts from the scheduled start, so a stalled server cannot
hide it:

\b
  pixelserve bench --model mnist-cnn --rate 500 --duration-s 60

A check for CI: exit code 12 if p99 is above 20 ms; failed requests count as the slowest:

\b
  pixelserve bench --model mnist-cnn --rate 500 --requests 10000 --assert-p99-ms 20 --json > bench.json

Goodput and refusals under overload, and latency beside a greedy client; one minute, no TLS:

\b
  pixelserve bench --model cifar10 --overload

A curve for `pixelserve plan`: rate, batches, CPU and memory of one pod with 1 to 64 requests in flight, in 15 seconds;
no TLS:

\b
  pixelserve bench --model cifar10 --curve --json > curve.json

Raw tensors by the Open Inference Protocol instead of pictures:

\b
  pixelserve bench --model mnist-cnn --method infer
  pixelserve bench --model text-lines --shape image:1,3,48,320

Load only your own servers.
"""


def register(app: typer.Typer) -> None:
    """Adds the command to the application."""
    app.command("bench", epilog=_EPILOG)(with_connection(bench))


def bench(
    model: Annotated[str, typer.Option(help="The model's name.", metavar="NAME")],
    model_version: Annotated[
        str, typer.Option(help="The model's version; default: the newest ready.", metavar="NUMBER")
    ] = "",
    method: Annotated[
        Literal["classify", "infer"] | None,
        typer.Option(help="Send pictures or raw tensors; default: pictures if the model accepts them."),
    ] = None,
    images: Annotated[
        list[Path] | None,
        typer.Option(exists=True, help="Send these pictures, in turn; may be repeated.", metavar="FILE|FOLDER"),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Images per request.")] = 1,
    shape: Annotated[
        list[str] | None,
        typer.Option(
            help="An input's whole shape, batch first, if the model has free dimensions; may be repeated.",
            metavar="INPUT:1,3,48,320",
        ),
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option(min=1, help=f"Requests in flight; default: {_CONCURRENCY}.")
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(min=0.001, help="Requests started per second, however long they take.", metavar="NUMBER"),
    ] = None,
    duration_s: Annotated[
        float | None, typer.Option(min=0.001, help=f"Seconds to measure; default: {_DURATION_S:g}.", metavar="SECONDS")
    ] = None,
    requests: Annotated[int | None, typer.Option(min=1, help="Requests to measure, instead of a duration.")] = None,
    warmup_s: Annotated[
        float, typer.Option(min=0, help="Seconds of load beforehand, excluded from all figures.", metavar="SECONDS")
    ] = 1.0,
    assert_p99_ms: Annotated[
        float | None, typer.Option(min=0, help="Exit with code 12 if p99 is above this.", metavar="MS")
    ] = None,
    overload: Annotated[
        bool,
        typer.Option("--overload", help="Send 0.7, 1, 2, 5 and 10 times the server's capacity, --duration-s each (4)."),
    ] = False,
    deadline_ms: Annotated[
        float | None, typer.Option(min=1, help="With --overload: each request's deadline; default: 200.", metavar="MS")
    ] = None,
    connections: Annotated[
        int | None, typer.Option(min=1, help="With --overload: number of connections; default: 8.")
    ] = None,
    curve: Annotated[
        bool,
        typer.Option("--curve", help="Measure a curve for `pixelserve plan`, --duration-s for each of 7 loads (2)."),
    ] = False,
    metrics_url: Annotated[
        str | None,
        typer.Option(help="With --curve: the server's metrics page; default: its port 8002.", metavar="URL"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")] = False,
    *,
    connection: Connection,
) -> None:
    """Measure a server under load: rates, latency percentiles and errors."""
    from pixelserve.bench.loops import Extent
    from pixelserve.bench.measure import Load

    if concurrency is not None and rate is not None:
        raise typer.BadParameter("--concurrency and --rate exclude each other")
    if duration_s is not None and requests is not None:
        raise typer.BadParameter("--duration-s and --requests exclude each other")
    if not overload and (deadline_ms is not None or connections is not None):
        raise typer.BadParameter("--deadline-ms and --connections need --overload")
    if overload and curve:
        raise typer.BadParameter("--overload and --curve exclude each other")
    if metrics_url is not None and not curve:
        raise typer.BadParameter("--metrics-url needs --curve")
    if (overload or curve) and (concurrency or rate or requests or assert_p99_ms is not None):
        raise typer.BadParameter(
            f"{'--overload' if overload else '--curve'} sets its own load; "
            "omit --concurrency, --rate, --requests and --assert-p99-ms"
        )
    shapes = dict(map(_shape, shape or []))
    if shapes and method == "classify":
        raise typer.BadParameter("--shape and --method classify exclude each other: pictures have their own sizes")
    seconds = duration_s or (None if requests else _DURATION_S)
    load, extent = Load(concurrency or _CONCURRENCY, rate), Extent(warmup_s, seconds, requests)
    if curve:
        curves.place(connection.configuration(), "a curve")
    version = _ask(connection, model, model_version)
    workload = _workload(version, method, batch, images or [], shapes)
    if overload:
        _overload(
            connection, version, workload, duration_s or 4.0, (deadline_ms or 200.0) / 1e3, connections or 8, as_json
        )
        return
    if curve:
        found = curves.measure(connection, version, workload, duration_s or curves.DURATION_S, metrics_url)
        _print(found, as_json)
        return
    _say(version, load, extent.warmup_s, f"{requests:,} requests" if requests else f"{seconds:g} s")
    _finish(_measure(connection, version, workload, load, extent), as_json, assert_p99_ms)


def _ask(connection: Connection, model: str, version: str) -> "ModelVersion":
    from pixelserve.bench.measure import choose

    with connection.client() as client:
        return choose(client.models(model), model, version)


def _shape(text: str) -> tuple[str, tuple[int, ...]]:
    """Parses an input's shape; its name may contain colons."""
    name, _, sizes = text.rpartition(":")
    if not name or not re.fullmatch(r"[1-9][0-9]{0,9}(,[1-9][0-9]{0,9})*", sizes):
        raise typer.BadParameter(f"--shape {text}: expected INPUT:SIZE,SIZE,… such as image:1,3,48,320")
    return name, tuple(map(int, sizes.split(",")))


def _workload(
    version: "ModelVersion", method: str | None, batch: int, images: list[Path], shapes: dict[str, tuple[int, ...]]
) -> "Workload":
    from pixelserve.bench import workload

    name = method or ("classify" if version.takes_images and not shapes else "infer")
    finder = Finder()
    files = list(pictures.find(images, finder))
    if images and not files:
        skipped = finder.skipped() or "empty"
        raise CommandError(f"no pictures in {', '.join(map(str, images))} ({skipped})", Exit.USAGE)
    if name == "infer" and files:
        # To send raw pixels, files must be decoded here.
        extras.load("PIL.Image", extra="server")
    chosen = workload.INFER if name == "infer" else workload.CLASSIFY
    return workload.make(version, chosen, batch=batch, files=files, shapes=shapes)


def _say(version: "ModelVersion", load: "Load", warmup_s: float, extent: str) -> None:
    if sys.stderr.isatty():
        line = f"{version.name} version {version.version}: {load}, {warmup_s:g} s warm-up, then {extent}"
        print(terminal.printable(line), file=sys.stderr)


def _measure(
    connection: Connection, version: "ModelVersion", workload: "Workload", load: "Load", extent: "Extent"
) -> "Report":
    from pixelserve.bench.channels import open_channels
    from pixelserve.bench.measure import measure

    configuration = connection.configuration()
    with open_channels(configuration) as channels:
        return measure(
            version,
            workload,
            load,
            extent,
            channels=channels,
            timeout_s=connection.timeout_s,
            metadata=configuration.metadata,
        )


def _overload(
    connection: Connection,
    version: "ModelVersion",
    workload: "Workload",
    seconds: float,
    deadline_s: float,
    connections: int,
    as_json: bool,
) -> None:
    from pixelserve.bench.channels import open_channels
    from pixelserve.bench.overload import Place, measure_overload
    from pixelserve.bench.runs import Runs

    configuration = connection.configuration()
    host, port = curves.place(configuration, "--overload")
    with open_channels(configuration) as (channel,):
        runs = Runs(channel, version, connection.timeout_s, configuration.metadata)
        report = measure_overload(
            version.name,
            workload,
            Place(host, port, configuration.metadata),
            connections=connections,
            deadline_s=deadline_s,
            seconds=seconds,
            run=runs.since_last,
            say=curves.say_step,
        )
    curves.say_step("")
    _print(report, as_json)


def _print(report: "OverloadReport | Curve", as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(report.as_json(), indent=2))
    else:
        typer.echo("\n".join(terminal.printable(line) for line in report.lines()))


def _finish(report: "Report", as_json: bool, assert_p99_ms: float | None) -> None:
    if as_json:
        typer.echo(json.dumps(report.as_json(), indent=2))
    else:
        block = "█" if (sys.stdout.encoding or "").lower().startswith("utf") else "#"
        typer.echo("\n".join(terminal.printable(line) for line in report.lines(block)))
    if assert_p99_ms is None:
        return
    p99_ms = report.record.percentile_with_failures_s(99) * 1e3
    if p99_ms > assert_p99_ms:
        failures = sum(report.record.errors.values())
        counted = f" (including {failures:,} failed)" if failures else ""
        raise CommandError(f"p99 is {p99_ms:.3f} ms{counted}, above {assert_p99_ms:g} ms", Exit.TOO_SLOW)
