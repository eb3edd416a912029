"""The flags of `pixelserve serve`: one per setting, in the settings' groups."""

import inspect
from pathlib import Path
from typing import Any, get_args

import typer
import typer.core
from pydantic.fields import FieldInfo

from .settings import GROUPS, Settings

_HELP = """Serve a model repository over gRPC and HTTP.

Every flag is also an environment variable, PIXELSERVE_ and its name in capitals (PIXELSERVE_GRPC_PORT), and a key of
the file that --config names. Flags override variables, variables the file, and the file the defaults.
"""
_EPILOG = """Examples:

\b
  pixelserve serve --model-repository models
  pixelserve serve --model-repository models --host 0.0.0.0 --tls-cert crt --tls-key key --tokens tokens
  PIXELSERVE_GRPC_PORT=0 pixelserve serve --model-repository models    # a free port, which the start-up line names
"""
_UNITS = {"_per_s": "NUMBER", "_s": "SECONDS", "_ms": "MS", "_mib": "MIB", "_kib": "KIB", "_pixels": "PIXELS"}


class _GroupedCommand(typer.core.TyperCommand):
    """A command whose plain help has a heading for each panel."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Writes the options, panel by panel."""
        panels: dict[str, list[tuple[str, str]]] = {}
        for option in self.get_params(ctx):
            if (row := option.get_help_record(ctx)) is not None:
                panels.setdefault(getattr(option, "rich_help_panel", None) or "Options", []).append(row)
        for title, rows in panels.items():
            with formatter.section(title):
                formatter.write_dl(rows)


def parse(args: list[str]) -> dict[str, Any]:
    """Returns the settings given as flags: text as given, switches as bool.

    Raises:
        SystemExit: --help, or an unknown flag.
    """
    parsed: list[dict[str, Any]] = []

    def serve(**values: Any) -> None:
        parsed.append({name: value for name, value in values.items() if value is not None and value != []})

    parameters = [_parameter(name, group) for group, names in groups().items() for name in names]
    serve.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what typer reads
    serve.__annotations__ = {one.name: one.annotation for one in parameters}
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command(cls=_GroupedCommand, help=_HELP, epilog=_EPILOG)(serve)
    try:
        typer.main.get_command(app)(args, prog_name="pixelserve serve")
    except SystemExit:
        if not parsed:
            raise
    return parsed[0]


def groups() -> dict[str, list[str]]:
    """Returns the settings' names by group, both in the order of `Settings`."""
    grouped: dict[str, list[str]] = {}
    for name in Settings.model_fields:
        if name in GROUPS:
            members = grouped.setdefault(GROUPS[name], [])
        members.append(name)
    return grouped


def default_text(field: FieldInfo) -> str | None:
    """Returns a setting's default as written, or None."""
    if field.is_required() or field.default in (None, (), ""):
        return None
    return str(field.default).lower() if isinstance(field.default, bool) else f"{field.default}"


def _parameter(name: str, group: str) -> inspect.Parameter:
    field = Settings.model_fields[name]
    flag = "--" + name.replace("_", "-")
    is_switch = field.annotation is bool
    kind = bool if is_switch else list[str] if isinstance(field.default, tuple) else str
    option = typer.Option(
        None,
        f"{flag}/--no-{flag.removeprefix('--')}" if is_switch else flag,
        help=_help(field),
        metavar=None if is_switch else _metavar(name, field),
        rich_help_panel=group,
        show_default=False,
    )
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=option, annotation=kind | None)


def _help(field: FieldInfo) -> str:
    if field.is_required():
        return f"{field.description}  [required]"
    default = ("on" if field.default else "off") if field.annotation is bool else default_text(field)
    return f"{field.description}  [default: {default}]" if default else f"{field.description}"


def _metavar(name: str, field: FieldInfo) -> str:
    if isinstance(field.default, tuple):
        return "KEY=VALUE"
    kinds = [kind for kind in (get_args(field.annotation) or (field.annotation,)) if kind is not type(None)]
    if all(isinstance(kind, str) for kind in kinds):
        return "|".join(kinds)
    if Path in kinds:
        return "FOLDER" if field.is_required() else "FILE"
    unit = next((unit for ending, unit in _UNITS.items() if name.endswith(ending)), "NUMBER")
    return unit if kinds[0] in (int, float) else "TEXT"
