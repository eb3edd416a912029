"""`pixelserve models`: lists, shows, loads and unloads a server's models."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import card_text, image, pull, terminal, versions
from .exits import CommandError, Exit
from .options import Connection, Name, with_connection

if TYPE_CHECKING:
    from pixelserve.client import ModelVersion

_LIST_EPILOG = """Every version that the server loaded or failed to load, with the reason:

\b
  pixelserve models list
  pixelserve models list --address 10.0.0.5:8001

The names of all ready models:

\b
  pixelserve models list --json | jq -r '.[] | select(.state == "READY") | .name'
"""
_SHOW_EPILOG = """A model's inputs, outputs and provider, and its card's data, accuracy and parity:

\b
  pixelserve models show mnist-cnn

One figure of the card:

\b
  pixelserve models show mnist-cnn --json | jq '.[0].card.evaluation.metrics.accuracy'
"""

_LOAD_EPILOG = """The server must run with --model-control-mode explicit. A newer version replaces the old one
without lost requests; if it fails to load, nothing changes and the reason is printed:

\b
  pixelserve models load mnist-cnn
  pixelserve models load mnist-cnn --timeout-s 120
"""
_UNLOAD_EPILOG = """The server must run with --model-control-mode explicit. Accepted requests are answered first:

\b
  pixelserve models unload mnist-cnn
"""


Json = Annotated[bool, typer.Option("--json", help="Print JSON: a list of versions, with their cards.")]


# More labels would bury the other facts.
_MOST_LABELS = 20


def register(app: typer.Typer) -> None:
    """Adds the commands to the application."""
    group = typer.Typer(
        no_args_is_help=True,
        rich_markup_mode=None,
        help="Show, load, unload and pull models; write images; name versions.",
    )
    group.command("list", epilog=_LIST_EPILOG)(with_connection(list_models))
    group.command("show", epilog=_SHOW_EPILOG)(with_connection(show))
    group.command("load", epilog=_LOAD_EPILOG)(with_connection(load))
    group.command("unload", epilog=_UNLOAD_EPILOG)(with_connection(unload))
    versions.register(group)
    pull.register(group)
    image.register(group)
    app.add_typer(group, name="models")


def list_models(as_json: Json = False, *, connection: Connection) -> None:
    """List the models of a server, ready or not."""
    versions = _ask(connection)
    if as_json:
        _print_json(versions)
        return
    shown = terminal.table("model", "version", "state", "accuracy", "provider", "evidence", right=("accuracy",))
    for one in versions:
        accuracy = card_text.accuracy(card_text.parse(one.card_json))
        version = " ".join([one.version, *one.aliases])
        terminal.add_row(shown, one.name, version, one.state, accuracy, one.provider, one.reason or one.evidence)
    terminal.print_table(shown)


def show(
    name: Name,
    as_json: Json = False,
    *,
    connection: Connection,
) -> None:
    """Show one model: signature, provider, state, and the figures of its card."""
    versions = _ask(connection, name)
    if not versions:
        raise CommandError(f"the server has no model {name}; `pixelserve models list` shows what it has", Exit.REFUSED)
    if as_json:
        _print_json(versions)
        return
    for number, one in enumerate(versions):
        if number:
            typer.echo()
        _print_version(one)


def load(name: Name, *, connection: Connection) -> None:
    """Load a model on a server, or reload it from its folder."""
    with connection.client() as client:
        client.load_model(name)
        versions = [one.version for one in client.models(name) if one.is_ready]
    typer.echo(terminal.printable(f"{name}: version {', '.join(versions)} ready"))


def unload(name: Name, *, connection: Connection) -> None:
    """Unload a model from a server."""
    with connection.client() as client:
        client.unload_model(name)
    typer.echo(terminal.printable(f"{name}: unloaded"))


def _ask(connection: Connection, name: str = "") -> "list[ModelVersion]":
    with connection.client() as client:
        return client.models(name)


def _print_version(one: "ModelVersion") -> None:
    shown = terminal.table("", "")
    shown.show_header = False
    for label, value in _facts(one):
        terminal.add_row(shown, label, value)
    typer.echo(terminal.printable(f"{one.name} version {one.version}"))
    terminal.print_table(shown)


def _facts(one: "ModelVersion") -> list[tuple[str, str]]:
    facts = [("state", one.state + (f": {one.reason}" if one.reason else "")), ("provider", one.provider)]
    facts += [("engine", " ".join(word for word in (one.engine, one.precision) if word))]
    facts += [("aliases", ", ".join(one.aliases))]
    facts += [("input", _signature(tensor)) for tensor in one.inputs]
    facts += [("output", _signature(tensor)) for tensor in one.outputs]
    facts += [("output kind", f"{one.output_kind} ({one.output_kind_reason})" if one.output_kind else "")]
    facts += [("batch", f"at most {one.max_batch_size}" if one.max_batch_size else "no batch dimension")]
    facts += [("accepts pictures", one.picture or ("yes" if one.takes_images else "no; ModelInfer only"))]
    facts += [("not merged", one.unmerged), ("evidence", one.evidence)]
    facts += card_text.facts(card_text.parse(one.card_json))
    return [(label, value) for label, value in facts if value]


def _signature(tensor: Any) -> str:
    shape = ", ".join("any" if size < 0 else str(size) for size in tensor.shape)
    text = f"{tensor.name} {tensor.datatype} [{shape}]"
    if not tensor.labels:
        return text
    more = len(tensor.labels) - _MOST_LABELS
    return f"{text}: {', '.join(tensor.labels[:_MOST_LABELS])}" + (f" and {more:,} more (--json has all)" * (more > 0))


def _print_json(versions: "list[ModelVersion]") -> None:
    typer.echo(json.dumps([_as_json(one) for one in versions], indent=2))


def _as_json(one: "ModelVersion") -> dict[str, Any]:
    plain = (
        *("name", "version", "state", "reason", "provider", "verified", "evidence", "max_batch_size", "takes_images"),
        *("unmerged", "picture", "engine", "precision"),
    )
    return {
        **{field: getattr(one, field) for field in plain},
        "aliases": list(one.aliases),
        "output_kind": one.output_kind,
        "output_kind_reason": one.output_kind_reason,
        "inputs": [_tensor_json(tensor) for tensor in one.inputs],
        "outputs": [_tensor_json(tensor) for tensor in one.outputs],
        "card": card_text.parse(one.card_json) or None,
    }


def _tensor_json(tensor: Any) -> dict[str, Any]:
    return {
        "name": tensor.name,
        "datatype": tensor.datatype,
        "shape": list(tensor.shape),
        "labels": list(tensor.labels),
    }
