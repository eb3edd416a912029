"""Generates the tables of docs/ from the code.

    python tests/support/reference_docs.py            writes them
    python tests/support/reference_docs.py --check    exits with 1 and names the pages that are out of date

A table stands between the lines `<!-- NAME: written by make reference-docs -->` and `<!-- end -->`.
"""

import argparse
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import typer
from pydantic.fields import FieldInfo

from pixelserve import cli
from pixelserve.cli import zoo
from pixelserve.cli.exits import Exit
from pixelserve_server.observe.metrics import Metrics
from pixelserve_server.repository.compatibility import RULES
from pixelserve_server.settings import Settings
from pixelserve_training.measuring.listing import Row
from pixelserve_training.recipe import Recipe
from pixelserve_training.zoo import recipes

DOCS = Path(__file__).resolve().parents[2] / "docs"
MARKED = re.compile(r"<!-- ([^\n]+): written by make reference-docs -->\n(.*?)<!-- end -->\n", re.DOTALL)
_SUFFIXES = {"counter": "_total", "info": "_info"}
_OF_A_VERSION = ("model", "version")
_TYPES = {"int": "NUMBER", "float": "NUMBER", "str": "TEXT"}


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Returns a Markdown table."""
    head = list(header)
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def settings() -> str:
    """Returns the server's settings."""
    rows = (
        (f"`--{name.replace('_', '-')}`", _default(field), field.description or "")
        for name, field in Settings.model_fields.items()
    )
    return table(("flag", "default", "meaning"), rows)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if isinstance(field.default, bool):
        return "on" if field.default else "off"
    return "" if field.default in (None, (), "") else f"`{field.default}`"


def metrics(*, of_a_version: bool) -> str:
    """Returns the metrics that have the labels model and version, or the others."""
    rows = []
    for family in Metrics().registry.collect():
        labels = tuple(getattr(family, "_labelnames", ()))
        if (labels[:2] == _OF_A_VERSION) == of_a_version:
            others = ", ".join(f"`{label}`" for label in labels if not of_a_version or label not in _OF_A_VERSION)
            kind = "counter" if family.type == "unknown" else family.type
            rows.append((f"`{family.name}{_SUFFIXES.get(family.type, '')}`", kind, others, family.documentation))
    return table(("metric", "type", "labels", "meaning"), rows)


def config_fields() -> str:
    """Returns the fields of config.pbtxt."""
    return table(("field", "", "meaning"), ((f"`{rule.field}`", rule.verdict, rule.reason) for rule in RULES))


def exit_codes() -> str:
    """Returns the exit codes of the command."""
    return table(("code", "meaning"), ((str(int(code)), code.meaning) for code in Exit))


def commands(group: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields every command of a group under its full name."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{prefix}{name} ")
        else:
            yield prefix + name, command


_ALL = typer.main.get_command(cli.app)
COMMANDS = dict(commands(_ALL))
# `pixelserve models load` has these and its argument only.
_SHARED = [parameter.opts[0] for parameter in COMMANDS["models load"].params if parameter.opts[0].startswith("--")]


def connection() -> str:
    """Returns the options of every command that talks to a server."""
    return table(("option", "meaning"), map(_row, COMMANDS["models load"].params[1:]))


def options(name: str) -> str:
    """Returns a command's own arguments and options; empty if it has only those that the page explains once.

    `serve` has none: its options are the settings.
    """
    explained = {*_SHARED, "--json", "--model-repository"}
    own = [each for each in COMMANDS[name].params if each.opts[0] not in explained]
    return table(("option", "meaning"), map(_row, own)) if any(each.opts[0].startswith("--") for each in own) else ""


def _row(parameter: Any) -> tuple[str, str]:
    if parameter.param_type_name == "argument":
        return f"`{parameter.metavar or parameter.name.upper()}`", parameter.help
    metavar = "" if parameter.is_flag else parameter.metavar or _type(parameter)
    notes = [parameter.help]
    if parameter.required:
        notes.append("Required.")
    elif not parameter.is_flag and parameter.default not in (None, ""):
        value = parameter.default[0] if isinstance(parameter.default, list) else parameter.default
        notes.append(f"Default: `{getattr(value, 'value', value)}`.")
    if parameter.envvar:
        notes.append(f"Variable: `{parameter.envvar}`.")
    return f"`{parameter.opts[0]} {metavar}".rstrip() + "`", " ".join(notes)


def _type(parameter: Any) -> str:
    shown = parameter.display_type(typer.Context(_ALL)).strip("<>")
    return _TYPES.get(shown.split()[0], shown)


def zoo_table(*, short: bool) -> str:
    """Returns the zoo's recipes with their figures, and the notes that these need."""
    found = recipes()
    notes = {text: number for number, text in enumerate(dict.fromkeys(each.caveat for each in found if each.caveat), 1)}
    rows = [_zoo_row(each, notes, short=short) for each in found]
    legend = "".join(f"\n{number}: {text}.\n" for text, number in notes.items())
    return table(rows[0], (row.values() for row in rows)) + legend


def _zoo_row(recipe: Recipe, notes: Mapping[str, int], *, short: bool) -> dict[str, str]:
    shown = zoo.cells(Row(recipe))
    note = str(notes.get(recipe.caveat, ""))
    if short:
        mean, interval = shown["claimed"].split(" ")[0], shown["95% interval"]
        where = "" if recipe.goal.split == "test" else f" {recipe.goal.split}"
        figure = f"{mean} ({interval}){where}" if interval else f"{mean}{where}"
        names = ("recipe", "data set")
        return {
            **{name: shown[name] for name in names},
            "mean accuracy (95% interval)": figure,
            "training": shown["training"],
            "note": note,
        }
    shown["mean ± deviation (lowest to highest)"] = shown.pop("claimed")
    shown["95% interval"] = shown.pop("95% interval")
    shown["time"] = "" if recipe.slowdown is None else f"{recipe.slowdown:.2f}"
    shown["training"] = shown.pop("training")
    return shown | {"note": note}


PAGES: Mapping[str, Mapping[str, Callable[[], str]]] = {
    "settings.md": {"settings": settings},
    "metrics.md": {
        "metrics of a version": lambda: metrics(of_a_version=True),
        "metrics of the server": lambda: metrics(of_a_version=False),
    },
    "zoo.md": {"the zoo": lambda: zoo_table(short=False)},
    "../README.md": {"the zoo in short": lambda: zoo_table(short=True)},
    "compatibility.md": {"config.pbtxt": config_fields},
    "cli.md": {
        "options of every client": connection,
        "exit codes": exit_codes,
        **{name: lambda name=name: options(name) for name in COMMANDS if options(name)},
    },
}


def page(name: str, text: str) -> str:
    """Returns a page with its tables as the code has them.

    Raises:
        ValueError: the page lacks one of its tables, or has one that is unknown.
    """
    found = [each[0] for each in MARKED.findall(text)]
    if sorted(found) != sorted(PAGES[name]):
        missing, unknown = set(PAGES[name]) - set(found), set(found) - set(PAGES[name])
        raise ValueError(f"docs/{name}: missing tables: {sorted(missing)}; unknown or repeated: {sorted(unknown)}")
    return MARKED.sub(
        lambda each: f"<!-- {each[1]}: written by make reference-docs -->\n\n{PAGES[name][each[1]]()}\n<!-- end -->\n",
        text,
    )


def main() -> None:
    """Writes the pages, or checks them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a page is out of date")
    only_check = parser.parse_args().check
    stale = {
        name: text for name in PAGES if (text := page(name, (DOCS / name).read_text())) != (DOCS / name).read_text()
    }
    for name, text in stale.items():
        if not only_check:
            (DOCS / name).write_text(text)
        print(f"docs/{name}: {'out of date; run `make reference-docs`' if only_check else 'written'}")
    sys.exit(only_check and bool(stale))


if __name__ == "__main__":
    main()
