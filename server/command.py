"""`pixelserve serve`: parse, build, run, exit code. `pixelserve doctor` has the same settings."""

import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsError,
)

from pixelserve.text import read_text

from . import flags
from .errors import ConfigurationError
from .settings import ENV_PREFIX, Settings

_SERVICE_LINK = re.compile(r"(tcp|udp|sctp)://\S+")


def parse_settings(args: list[str]) -> Settings:
    """Returns the settings: flags override the environment, then a configuration file, then defaults.

    Raises:
        ConfigurationError: a value is invalid or the file unreadable; the message names the setting or file.
        SystemExit: --help, or an unknown flag.
    """
    given = flags.parse(args)
    path = given.get("config") or os.environ.get(f"{ENV_PREFIX}CONFIG")

    class Configured(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            *_: PydanticBaseSettingsSource,
            **__: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            if isinstance(env_settings, EnvSettingsSource):
                links = service_links(env_settings.env_vars)
                env_settings.env_vars = {
                    name: value for name, value in env_settings.env_vars.items() if name not in links
                }
            file = (_file_source(settings_cls, Path(path)),) if path else ()
            return (init_settings, env_settings, *file)

    try:
        return Configured(**given)
    except (ValidationError, SettingsError) as error:
        raise ConfigurationError(_explain(error)) from error


def service_links(environment: Mapping[str, str | None]) -> list[str]:
    """Returns variables that have a setting's name but hold the address of a Kubernetes Service.

    A pod gets variables for each Service in its namespace: one named pixelserve-metrics makes
    PIXELSERVE_METRICS_PORT=tcp://10.0.0.1:8002. These are not settings and must not prevent the start.
    """
    settings = {f"{ENV_PREFIX}{name}".upper() for name in Settings.model_fields}
    return [
        name for name, value in environment.items() if name.upper() in settings and _SERVICE_LINK.fullmatch(value or "")
    ]


def _file_source(settings_cls: type[BaseSettings], path: Path) -> PydanticBaseSettingsSource:
    parsers: dict[str, Callable[[str], Any]]
    parsers = {".toml": _read_toml, ".yaml": _read_yaml, ".yml": _read_yaml}
    parse = parsers.get(path.suffix)
    if parse is None:
        raise ConfigurationError(f"--config {path}: expected a .toml, .yaml or .yml file")
    if not path.is_file():
        raise ConfigurationError(f"--config {path}: there is no such file")
    try:
        return InitSettingsSource(settings_cls, parse(read_text(path)) or {})
    except OSError as error:
        raise ConfigurationError(f"--config {path}: cannot be read: {error.strerror}; check its permissions") from error
    # Both parsers' errors, a wrong encoding, and a top level that is not a table.
    except Exception as error:
        raise ConfigurationError(f"--config {path}: it cannot be parsed: {error}") from error


# Parsers are imported here, because most servers have no such file.
def _read_toml(text: str) -> Any:
    import tomllib

    return tomllib.loads(text)


def _read_yaml(text: str) -> Any:
    import yaml

    return yaml.safe_load(text)


def _explain(error: ValidationError | SettingsError) -> str:
    if isinstance(error, SettingsError):
        return str(error)
    problems = []
    for problem in error.errors():
        if not problem["loc"]:
            # Contradicting settings: the message names their flags.
            problems.append(problem["msg"].removeprefix("Value error, "))
            continue
        name = str(problem["loc"][0])
        if problem["type"] == "extra_forbidden":
            problems.append(f"the configuration file has an unknown setting, {name}; see pixelserve serve --help")
            continue
        flag = "--" + name.replace("_", "-")
        where = f"{flag} (or {ENV_PREFIX}{name.upper()})"
        problems.append(f"{where} {_reason(problem['type'], problem['msg'], problem.get('input'))}")
    return "; ".join(problems)


def _reason(kind: str, message: str, value: object) -> str:
    if kind == "missing":
        return "is missing"
    if kind == "value_error":
        # Our own message names the value.
        return message.removeprefix("Value error, ")
    return f"is {value!r}: {message[0].lower()}{message[1:]}"


def describe(settings: Settings) -> str:
    """Returns settings as TOML for `--config`."""
    values = settings.model_dump(mode="json", exclude={"config", "print_config"}, exclude_none=True)
    # JSON strings, numbers and booleans are valid TOML.
    return "".join(f"{name} = {json.dumps(value, ensure_ascii=False)}\n" for name, value in values.items())


def main(args: list[str]) -> int:
    """Runs the server; returns the process's exit code."""
    settings = parse_settings(args)
    if settings.print_config:
        print(describe(settings), end="")
        return 0
    # Imports the engine and transports, which --help and `pixelserve doctor` do not need.
    from .process import run

    return run(settings, service_links=service_links(os.environ))
