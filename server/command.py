"""`pixelserve serve` behind its command line: parse, build, run, exit code."""

from pydantic import ValidationError
from pydantic_settings import CliSettingsSource, SettingsError

from .app import run
from .errors import StartupError
from .settings import Settings


def parse_settings(args: list[str]) -> Settings:
    """Returns the settings that flags, the environment and defaults make.

    Raises:
        StartupError: a value is wrong; the setting is named.
        SystemExit: --help, or a flag that does not exist.
    """
    cli: CliSettingsSource[Settings] = CliSettingsSource(
        Settings,
        cli_prog_name="pixelserve serve",
        cli_parse_args=args,
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_avoid_json=True,
    )
    try:
        return Settings(_cli_settings_source=cli)
    except (ValidationError, SettingsError) as error:
        raise StartupError(_explain(error)) from error


def _explain(error: ValidationError | SettingsError) -> str:
    if isinstance(error, SettingsError):
        return str(error)
    problems = []
    for problem in error.errors():
        name = str(problem["loc"][0]) if problem["loc"] else "settings"
        flag = "--" + name.replace("_", "-")
        where = f"{flag} (or PIXELSERVE_{name.upper()})"
        problems.append(f"{where} {_reason(problem['type'], problem['msg'], problem.get('input'))}")
    return "; ".join(problems)


def _reason(kind: str, message: str, value: object) -> str:
    return "is missing" if kind == "missing" else f"is {value!r}: {message[0].lower()}{message[1:]}"


def main(args: list[str]) -> int:
    """Runs the server; returns the process's exit code."""
    return run(parse_settings(args))
