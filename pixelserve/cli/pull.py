"""`pixelserve models pull`: mirrors a model into a repository."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Self

import typer

from pixelserve.pull.errors import PullError

from . import extras, terminal
from .exits import CommandError

_EPILOG = """A model's folder with config.pbtxt and version folders, from a path, an object store or a web
server, into ./models, where a server in poll mode finds it:

\b
  pixelserve models pull /mnt/share/models/mnist-cnn
  pixelserve models pull s3://bucket/models/mnist-cnn --model-repository models
  pixelserve models pull gs://bucket/models/mnist-cnn
  pixelserve models pull https://example.org/models/mnist-cnn

An image from `pixelserve models image`, in a registry or a folder:

\b
  pixelserve models pull oci://registry.example.org/models/mnist-cnn:1
  pixelserve models pull oci:images:mnist-cnn-1

Only two versions, under another name:

\b
  pixelserve models pull s3://bucket/models/mnist-cnn --versions 1,3 --name digits

Only with evidence, and replayed before it is published (needs the extra server):

\b
  pixelserve models pull s3://bucket/models/mnist-cnn --require-card --check

The result, for a program:

\b
  pixelserve models pull s3://bucket/models/mnist-cnn --json | jq -r '.versions[] | [.version, .state] | @tsv'

Existing versions stay; a version with different content is refused without --replace.
"""


def register(group: typer.Typer) -> None:
    """Adds the command to `pixelserve models`."""
    group.command("pull", epilog=_EPILOG)(pull)


def pull(
    url: Annotated[
        str,
        typer.Argument(
            help="The model's folder: a path, or s3://, gs://, http(s):// and so on; or its image, oci:.", metavar="URL"
        ),
    ],
    model_repository: Annotated[
        Path,
        typer.Option(envvar="PIXELSERVE_MODEL_REPOSITORY", help="The model repository to write to.", metavar="DIR"),
    ] = Path("models"),
    name: Annotated[str | None, typer.Option(help="The model's name; default: its folder's.", metavar="NAME")] = None,
    versions: Annotated[
        str | None, typer.Option(help="Versions, separated by commas; default: all.", metavar="NUMBERS")
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Overwrite existing versions that have different content.")
    ] = False,
    require_card: Annotated[bool, typer.Option("--require-card", help="Refuse versions without a card.json.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Load each version like a server, and replay its golden samples.")
    ] = False,
    max_mib: Annotated[int, typer.Option(min=1, help="Maximum total size of the files, in MiB.")] = 4096,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")] = False,
) -> None:
    """Mirror a model into a repository, verified and all-or-nothing."""
    mirror = extras.load("pixelserve.pull.mirror", extra="pull")
    prove = extras.load("pixelserve_server.tools.check", extra="server").check_model if check else None
    wanted = mirror.Wanted(
        url,
        model_repository,
        name=name,
        versions=_numbers(versions),
        replace=replace,
        require_card=require_card,
        max_bytes=max_mib << 20,
        check=prove,
    )
    try:
        with _Bar() as bar:
            mirrored = mirror.mirror(wanted, bar)
    except PullError as error:
        # It may contain untrusted names.
        raise CommandError(terminal.printable(str(error)), error.exit_code) from error
    for version, evidence in mirrored.evidence.items():
        if evidence.sha256 is None:
            _say(f"warning: {mirrored.model.name} version {version} has no card.json, so it cannot be verified")
    typer.echo(json.dumps(mirrored.as_json(), indent=2) if as_json else _summary(mirrored))


def _numbers(versions: str | None) -> frozenset[int] | None:
    if versions is None:
        return None
    parts = [part.strip() for part in versions.split(",")]
    if not all(part.isascii() and part.isdecimal() and int(part) for part in parts):
        raise typer.BadParameter(f"--versions {versions!r}: expected comma-separated numbers above 0, such as 1,3")
    return frozenset(map(int, parts))


def _summary(mirrored: Any) -> str:
    lines = []
    for version, state in mirrored.plan.versions.items():
        found = mirrored.evidence[version].summary if mirrored.replayed is None else mirrored.replayed[version]
        lines.append(f"{mirrored.model.name} version {version} {state}; {found}")
    lines += [f"{name} {state}" for name, state in mirrored.plan.files.items()]
    lines.append(f"next: pixelserve serve --model-repository {mirrored.model.parent}")
    return "\n".join(map(terminal.printable, lines))


def _say(line: str) -> None:
    print(terminal.printable(line), file=sys.stderr, flush=True)


class _Bar:
    """Shows the received bytes on stderr, if it is a terminal."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
        from rich.progress import TransferSpeedColumn as SpeedColumn

        console = terminal.console(stderr=True)
        columns = (TextColumn("pulling"), BarColumn(), DownloadColumn(), SpeedColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bar.add_task("", total=None)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def on_listed(self, total_bytes: int | None) -> None:
        self._bar.update(self._task, total=total_bytes)

    def on_bytes(self, count: int) -> None:
        self._bar.advance(self._task, count)

    def on_wait(self, model: str) -> None:
        _say(f"waiting for another pull of {model} into this repository")
