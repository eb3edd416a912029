"""`pixelserve plan`: the number and size of pods for a rate within a p99."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import curves, terminal
from .exits import CommandError, Exit
from .options import Connection, with_connection

if TYPE_CHECKING:
    from pixelserve.capacity.curve import MeasuredCurve

_EPILOG = """Measure one pod on its cores, with nothing else running, then plan from the file:

\b
  pixelserve bench --model cifar10 --curve --json > curve.json
  pixelserve plan --bench curve.json --rps 2000 --p99-ms 50

Without --bench, the command first measures the server at --address, in 15 seconds:

\b
  pixelserve plan --model cifar10 --rps 2000 --p99-ms 50

Values for the Helm chart, to combine with your own values:

\b
  pixelserve plan --bench curve.json --rps 2000 --p99-ms 50 --helm-values > capacity.yaml
  helm upgrade --install digits deploy/helm/pixelserve -f values.yaml -f capacity.yaml
"""


def register(app: typer.Typer) -> None:
    """Adds the command to the application."""
    app.command("plan", epilog=_EPILOG)(with_connection(plan))


def plan(
    rps: Annotated[float, typer.Option(help="Requests per second of all pods together.", metavar="NUMBER")],
    p99_ms: Annotated[
        float, typer.Option(help="The latency target: 99% of requests within this many milliseconds.", metavar="MS")
    ],
    bench: Annotated[
        Path | None,
        typer.Option(help="Output of `pixelserve bench --curve --json`; default: measure now.", metavar="FILE"),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="The model to measure; with --bench, FILE must be of this model.", metavar="NAME")
    ] = None,
    batch_images: Annotated[
        int | None,
        typer.Option(min=1, help="Maximum images per run; default: the largest run measured.", metavar="NUMBER"),
    ] = None,
    spare_pods: Annotated[
        int, typer.Option(min=0, max=1000, help="Pods that may fail while the p99 holds.", metavar="NUMBER")
    ] = 1,
    metrics_url: Annotated[
        str | None,
        typer.Option(help="The measured server's metrics page; default: port 8002 of --address.", metavar="URL"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON on stdout.")] = False,
    helm: Annotated[bool, typer.Option("--helm-values", help="Print values for the Helm chart on stdout.")] = False,
    *,
    connection: Connection,
) -> None:
    """Plan pods, CPU, memory and autoscaling for a rate within a p99, from a measured curve."""
    from pixelserve.capacity import report
    from pixelserve.capacity.plan import Goal, make

    for name, value in {"--rps": rps, "--p99-ms": p99_ms}.items():
        if not 0 < value < math.inf:
            raise typer.BadParameter(f"{name} {value:g}: expected a number above 0")
    if as_json and helm:
        raise typer.BadParameter("--json and --helm-values exclude each other")
    if bench and metrics_url:
        raise typer.BadParameter("--bench and --metrics-url exclude each other: a file needs no measurement")
    curve = _read(bench, model) if bench else _measure(connection, model, metrics_url)
    made = make(curve, Goal(rps, p99_ms / 1e3, spare_pods), batch_images)
    if as_json:
        typer.echo(json.dumps(report.as_json(made), indent=2))
    else:
        lines = report.helm_values(made) if helm else report.lines(made)
        typer.echo("\n".join(terminal.printable(line) for line in lines))


def _read(path: Path, model: str | None) -> "MeasuredCurve":
    from pixelserve.capacity.curve import MeasuredCurve

    curve = MeasuredCurve.read(path)
    if model is not None and model != curve.model:
        raise CommandError(f"{path}: a curve of {curve.model}, not of {model}", Exit.USAGE)
    return curve


def _measure(connection: Connection, model: str | None, metrics_url: str | None) -> "MeasuredCurve":
    from pixelserve.bench import workload
    from pixelserve.bench.measure import choose
    from pixelserve.capacity.curve import MeasuredCurve

    if model is None:
        raise typer.BadParameter(
            "--bench FILE or --model NAME is required; "
            "make FILE with: pixelserve bench --model NAME --curve --json > FILE"
        )
    curves.place(connection.configuration(), "a curve")
    with connection.client() as client:
        version = choose(client.models(model), model, "")
    method = workload.CLASSIFY if version.takes_images else workload.INFER
    requests = workload.make(version, method, batch=1)
    return MeasuredCurve.of(curves.measure(connection, version, requests, curves.DURATION_S, metrics_url).as_json())
