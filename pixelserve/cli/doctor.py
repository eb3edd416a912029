"""`pixelserve doctor`: reports all problems of a model repository and how to fix them."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from . import extras, terminal
from .exits import Exit

_EPILOG = """Load every version like the server; the exit code is 15 if something would not be served:

\b
  pixelserve doctor models
  pixelserve doctor models --require-card --device cpu

Only read the files, for a check in CI:

\b
  pixelserve doctor models --quick --json | jq -r '.findings[] | select(.severity == "error") | .problem'
"""


def register(app: typer.Typer) -> None:
    """Adds the command to the application."""
    app.command(epilog=_EPILOG)(doctor)


def doctor(
    repository: Annotated[
        Path,
        typer.Argument(exists=True, file_okay=False, metavar="REPO", help="The model repository: a folder of models."),
    ],
    quick: Annotated[
        bool, typer.Option("--quick", help="Only read the files; load no model and replay no golden sample.")
    ] = False,
    device: Annotated[str | None, typer.Option(help="As for serve.", show_default=False)] = None,
    require_card: Annotated[
        bool, typer.Option("--require-card", help="As for serve: refuse versions without a card.")
    ] = False,
    config: Annotated[
        Path | None, typer.Option(help="As for serve: a .toml or .yaml file of its settings.", metavar="FILE")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")] = False,
) -> None:
    """Find everything wrong with a model repository, and how to fix it."""
    command = extras.load("pixelserve_server.command", extra="server")
    check = extras.load("pixelserve_server.tools.check", extra="server")
    options = {"device": device, "config": config}
    args = [f"--{name}={value}" for name, value in options.items() if value is not None]
    args += [f"--model-repository={repository}", *(["--require-card"] if require_card else [])]
    report = check.diagnose(command.parse_settings(args), quick=quick)
    if as_json:
        typer.echo(json.dumps(_as_json(report), indent=2))
    else:
        _print(report)
    if not report.would_serve:
        raise typer.Exit(Exit.UNSERVABLE)


def _print(report: Any) -> None:
    for finding in report.findings:
        where = finding.path if finding.line is None else f"{finding.path}:{finding.line}"
        typer.echo(terminal.printable(f"{where}: {finding.severity}: {finding.problem}"))
        if finding.write:
            typer.echo(terminal.printable(f"    write: {finding.write}"))
    models = [model for model in report.models if model.name]
    for model in models:
        for version, evidence in model.versions.items():
            typer.echo(terminal.printable(f"{model.name} version {version}: would serve{evidence and f', {evidence}'}"))
    served = sum(model.would_serve for model in models)
    errors = sum(finding.severity == "error" for finding in report.findings)
    typer.echo(
        f"{served} of {_count(len(models), 'model')} would serve; "
        f"{_count(errors, 'error')}, {_count(len(report.findings) - errors, 'warning')}"
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _as_json(report: Any) -> dict[str, Any]:
    return {
        "would_serve": report.would_serve,
        "models": [
            {"name": model.name, "would_serve": model.would_serve, "versions": model.versions}
            for model in report.models
            if model.name
        ],
        "findings": [
            {"model": model.name or None, **asdict(finding), "path": str(finding.path), "write": finding.write or None}
            for model in report.models
            for finding in model.findings
        ],
    }
