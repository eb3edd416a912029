"""`pixelserve models promote|rollback|diff`: changes a model's stable version, and compares versions."""

import dataclasses
import json
from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from . import card_text, extras, terminal
from .options import Name

_PROMOTE_EPILOG = """A version's name is a parameter of config.pbtxt; nothing else in the file changes. A server
with --model-control-mode poll applies it, one with explicit at the next load of the model:

\b
  pixelserve models promote mnist-cnn 2 --to candidate       # requests can now select the candidate
  pixelserve models diff mnist-cnn                           # how the candidate differs
  pixelserve models promote mnist-cnn                        # the candidate is now the default
  pixelserve models promote mnist-cnn 2 --model-repository /srv/models
  pixelserve models load mnist-cnn
"""
_ROLLBACK_EPILOG = """Restore the version that was stable before the last promotion. It is still loaded, so it
answers at once; a second rollback undoes the first:

\b
  pixelserve models rollback mnist-cnn
"""
_DIFF_EPILOG = """Both cards, and how often both versions predict the same class for a golden sample, computed here with
ONNX Runtime. Without versions: the stable one and the candidate, else the two highest:

\b
  pixelserve models diff mnist-cnn
  pixelserve models diff mnist-cnn 1 2 --model-repository models
  pixelserve models diff mnist-cnn --json | jq .agreement.same_labels
"""


class Alias(StrEnum):
    """Names for promoted versions."""

    stable = "stable"
    candidate = "candidate"


Repository = Annotated[
    Path, typer.Option(envvar="PIXELSERVE_MODEL_REPOSITORY", help="The folder of models.", metavar="DIR")
]
NamesAsJson = Annotated[bool, typer.Option("--json", help="Print the names before and after as JSON.")]


def register(group: typer.Typer) -> None:
    """Adds the commands to `pixelserve models`."""
    group.command("promote", epilog=_PROMOTE_EPILOG)(promote)
    group.command("rollback", epilog=_ROLLBACK_EPILOG)(rollback)
    group.command("diff", epilog=_DIFF_EPILOG)(diff)


def promote(
    name: Name,
    version: Annotated[
        int | None,
        typer.Argument(
            help="The version's number; default: the candidate, or with --to candidate the highest version.",
            metavar="VERSION",
            min=1,
        ),
    ] = None,
    to: Annotated[Alias, typer.Option(help="The version's new name.")] = Alias.stable,
    model_repository: Repository = Path("models"),
    as_json: NamesAsJson = False,
) -> None:
    """Make a version its model's stable version, or its candidate."""
    promotion = extras.load("pixelserve_server.tools.promotion", extra="server")
    _print_move(promotion.promote(model_repository, name, version, to.value), as_json)


def rollback(
    name: Name,
    model_repository: Repository = Path("models"),
    as_json: NamesAsJson = False,
) -> None:
    """Restore the previous stable version."""
    promotion = extras.load("pixelserve_server.tools.promotion", extra="server")
    _print_move(promotion.rollback(model_repository, name), as_json)


def _print_move(move: Any, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"model": move.model, "before": move.before, "after": move.after}, indent=2))
        return
    for alias, version in move.after.items():
        before = move.before.get(alias)
        was = "unchanged" if before == version else f"was {before}" if before else "was unset"
        typer.echo(terminal.printable(f"{move.model}: {alias} is version {version} ({was})"))


def diff(
    name: Name,
    first: Annotated[str, typer.Argument(help="A version's number or name.", metavar="A")] = "",
    second: Annotated[str, typer.Argument(help="The other version's number or name.", metavar="B")] = "",
    model_repository: Repository = Path("models"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: both cards, and the agreement.")] = False,
) -> None:
    """Compare two versions side by side."""
    comparison = extras.load("pixelserve_server.tools.comparison", extra="server")
    found = comparison.compare(model_repository, name, first, second)
    if as_json:
        typer.echo(json.dumps(_comparison_json(found), indent=2))
        return
    titles = [" ".join([f"version {side.version}", *side.aliases]) for side in found.sides]
    shown = terminal.table("", *titles)
    facts = [_side_facts(side) for side in found.sides]
    for label, place in {**facts[0], **facts[1]}:
        terminal.add_row(shown, label, *(side.get((label, place), "") for side in facts))
    terminal.print_table(shown)
    typer.echo(terminal.printable(_agreement_text(found)))


def _side_facts(side: Any) -> dict[tuple[str, int], str]:
    """Returns a version's facts by label, numbered if several have the same label."""
    card = card_text.parse(side.card.model_dump_json()) if side.card else {}
    facts = [("model file", f"{side.size_bytes:,} bytes"), ("card", "" if card else "none"), *card_text.facts(card)]
    seen: Counter[str] = Counter()
    found = {}
    for label, text in facts:
        if text:
            found[label, seen[label]] = text
            seen[label] += 1
    return found


def _agreement_text(found: Any) -> str:
    if found.agreement is None:
        return f"not computed: {found.reason}"
    agreement = found.agreement
    difference = f"outputs differ by at most {agreement.largest_difference:.3g}"
    if agreement.same_labels is None:
        return f"on {agreement.samples:,} golden samples, {difference}"
    share = agreement.same_labels / agreement.samples
    same = f"{agreement.same_labels:,} of {agreement.samples:,} golden samples ({share:.2%})"
    return f"the same class for {same}; {difference}"


def _comparison_json(found: Any) -> dict[str, Any]:
    return {
        "model": found.model,
        "versions": [
            {
                "version": side.version,
                "aliases": list(side.aliases),
                "size_bytes": side.size_bytes,
                "card": side.card.model_dump(mode="json", exclude_none=True) if side.card else None,
            }
            for side in found.sides
        ],
        "agreement": dataclasses.asdict(found.agreement) if found.agreement else None,
        "reason": found.reason,
    }
