"""`pixelserve models image`: writes a version as an OCI image."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from pixelserve.pull.errors import PullError

from . import extras, terminal
from .exits import CommandError, Exit
from .versions import Repository

_EPILOG = """To a folder (an OCI layout) or a registry; prints the digest:

\b
  pixelserve models image mnist-cnn/1 --to oci:images
  pixelserve models image mnist-cnn/1 --to oci:images:stable
  pixelserve models image mnist-cnn/1 --to oci://registry.example.org/models/mnist-cnn:1

Roll out a digest:

\b
  pixelserve models image mnist-cnn/2 --to oci://registry.example.org/models/mnist-cnn:2 --json | jq -r .pinned
  pixelserve models pull oci://registry.example.org/models/mnist-cnn:2

The same files always give the same digest, on any machine.
"""


def register(group: typer.Typer) -> None:
    """Adds the command to `pixelserve models`."""
    group.command("image", epilog=_EPILOG)(image)


def image(
    which: Annotated[str, typer.Argument(help="The model and the version's number.", metavar="MODEL/VERSION")],
    to: Annotated[
        str, typer.Option(help="oci:DIR[:TAG], or oci://REGISTRY/NAME:TAG; docker:// is the same.", metavar="IMAGE")
    ],
    model_repository: Repository = Path("models"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")] = False,
) -> None:
    """Write one version as an OCI image, verified and reproducible; prints its digest."""
    model, version = _parsed(which)
    writing = extras.load("pixelserve.oci.writing", extra="pull")
    try:
        written = writing.write(model_repository, model, version, to, on_wait=_say_waiting)
    except PullError as error:
        raise CommandError(terminal.printable(str(error)), error.exit_code) from error
    if not written.is_verified:
        _say(f"warning: {model} version {version} has no card.json, so it cannot be verified")
    typer.echo(json.dumps(written.as_json(), indent=2) if as_json else _summary(written))


def _parsed(which: str) -> tuple[str, int]:
    model, _, version = which.partition("/")
    if not model or not (version.isascii() and version.isdecimal()) or version.startswith("0"):
        problem = f"{which}: expected MODEL/VERSION, a model's name and a version's number, such as mnist-cnn/1"
        raise CommandError(terminal.printable(problem), Exit.USAGE)
    return model, int(version)


def _summary(written: Any) -> str:
    lines = [written.digest, f"{written.reference}: {written.model} version {written.version}"]
    return "\n".join(map(terminal.printable, lines))


def _say_waiting() -> None:
    _say("waiting for another command to finish writing to this layout")


def _say(line: str) -> None:
    print(terminal.printable(line), file=sys.stderr, flush=True)
