"""docs/cli.md and the commands' help are correct."""

import inspect
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from pixelserve import cli
from pixelserve.bench import errors as bench_errors
from pixelserve.capacity import errors as capacity_errors
from pixelserve.cli.exits import Exit
from pixelserve.cli.extras import MissingExtraError
from pixelserve.client import errors
from pixelserve.pull import errors as pull_errors
from pixelserve_server import errors as server_errors
from pixelserve_training import errors as training_errors

ROOT = Path(__file__).resolve().parents[3]
DOCS = (ROOT / "docs" / "cli.md").read_text()
# `serve` hands its arguments to the server, whose settings have a test of their own.
FOREIGN_OPTIONS = {"serve"}


def commands(group: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields every command under its full name."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{prefix}{name} ")
        else:
            yield prefix + name, command


COMMANDS = dict(commands(typer.main.get_command(cli.app)))


def examples(text: str) -> Iterator[str]:
    """Yields the `pixelserve …` commands of the indented and the fenced lines of a text."""
    for line in text.splitlines():
        if re.match(r"(\s{2,}|\$ )(python -m )?pixelserve ", line):
            for part in re.split(r"\||&&|>|#", line.strip(" $")):
                if part.strip().startswith("pixelserve "):
                    yield part.strip()


def command_of(example: str) -> str:
    words = shlex.split(example)
    return " ".join(words[1:3]) if " ".join(words[1:3]) in COMMANDS else words[1]


TEXTS = {"docs": DOCS, **{name: command.epilog or "" for name, command in COMMANDS.items()}}
EXAMPLES = [(where, example) for where, text in TEXTS.items() for example in examples(text)]


def test_the_exit_codes_of_the_docs_are_those_of_the_code() -> None:
    rows = re.findall(r"^\| (\d+) \| (.*) \|$", DOCS, re.MULTILINE)
    assert rows == [(str(int(code)), code.meaning) for code in Exit]


def test_every_error_that_ends_a_command_has_a_documented_exit_code() -> None:
    kinds = [
        kind
        for module in (errors, pull_errors, server_errors, training_errors, bench_errors, capacity_errors)
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if hasattr(kind, "exit_code")
    ]
    assert len(kinds) > 15
    for kind in [*kinds, MissingExtraError]:
        assert kind.exit_code in Exit.__members__.values(), kind
    assert server_errors.ConfigurationError.exit_code == training_errors.UsageError.exit_code == Exit.USAGE
    assert server_errors.MissingLibraryError.exit_code == training_errors.MissingLibraryError.exit_code == 3
    # Exit's names of the client's codes.
    assert errors.SettingsError.exit_code == Exit.USAGE
    assert errors.RequestRefused.exit_code == Exit.REFUSED
    assert errors.NotNow.exit_code == Exit.NOT_NOW
    assert errors.ServerFailed.exit_code == Exit.SERVER_FAILED
    assert MissingExtraError.exit_code == pull_errors.MissingPackageError.exit_code == Exit.MISSING_EXTRA
    assert pull_errors.SourceRefused.exit_code == Exit.REFUSED
    assert pull_errors.SourceUnavailable.exit_code == Exit.NOT_NOW
    assert pull_errors.SourceFailed.exit_code == Exit.SERVER_FAILED


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_an_example_in_the_docs(name: str) -> None:
    assert any(where == "docs" and command_of(example) == name for where, example in EXAMPLES)


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in FOREIGN_OPTIONS])
def test_every_commands_help_teaches_by_example(name: str, run: Callable[..., Any]) -> None:
    ran = run(*name.split(), "--help")
    assert ran.code == 0
    assert f"pixelserve {name}" in ran.out.split("Options:")[1]


@pytest.mark.parametrize(("where", "example"), EXAMPLES)
def test_examples_use_commands_and_options_that_there_are(where: str, example: str) -> None:
    name = command_of(example)
    assert name in COMMANDS
    if name in FOREIGN_OPTIONS:
        return
    known = {option for parameter in COMMANDS[name].params for option in parameter.opts} | {"--help"}
    used = {word.split("=")[0] for word in shlex.split(example) if word.startswith("--")}
    assert used <= known


@pytest.mark.parametrize(
    "name", ["classify", "show", "models list", "models show", "models pull", "models image", "health", "bench", "plan"]
)
def test_every_option_of_the_clients_commands_is_in_the_docs(name: str) -> None:
    options = {option for parameter in COMMANDS[name].params for option in parameter.opts if option.startswith("--")}
    assert not {option for option in options if f"{option}" not in DOCS}
