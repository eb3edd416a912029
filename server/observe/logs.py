"""The log: structured events on standard error, as JSON lines or as text for people."""

import json
import logging
import os
from collections.abc import MutableMapping
from typing import Any, Literal, get_args

from .output import LogOutput
from .plain_structlog import structlog

Log = Any
"""A bound structlog logger; its methods take an event's name and fields, and never raise."""

LevelName = Literal["debug", "info", "warning", "error"]
LEVELS: tuple[LevelName, ...] = get_args(LevelName)
"""Least severe first."""

STDERR = 2
"""The file descriptor of standard error."""

_Event = MutableMapping[str, Any]


class LogLevel:
    """The lowest level that is logged. May be changed from any thread; applies from the next line on."""

    def __init__(self, name: LevelName) -> None:
        self.name: LevelName = name

    def __call__(self, _: object, method: str, event: _Event) -> _Event:
        """Drops events below the level; a structlog processor."""
        numbers = logging.getLevelNamesMapping()
        # A method without a level of its name, such as exception, counts as error.
        if numbers.get(method.upper(), logging.ERROR) < numbers[self.name.upper()]:
            raise structlog.DropEvent
        return event


# Made once, with no method disabled, because the level decides at run time.
class _Logger(structlog.make_filtering_bound_logger(logging.NOTSET)):  # type: ignore[misc]  # a generated class
    """A logger whose methods never raise: an event that cannot be rendered becomes a short one."""

    def _proxy_to_logger(self, method_name: str, event: str | None = None, *args: Any, **fields: Any) -> Any:
        try:
            return super()._proxy_to_logger(method_name, event, *args, **fields)
        except Exception as error:  # noqa: BLE001  such as a field whose repr raises
            not_shown = f"a field raised {type(error).__name__}"
            short = {"event": str(event), "level": method_name, "not_shown": not_shown}
            named = {"instance": self._context["instance"]} if "instance" in self._context else {}
            self._logger.msg(json.dumps({**named, **short}))


def configure_logs(level: LogLevel, log_format: str, descriptor: int = STDERR, *, instance: str = "") -> Log:
    """Sets up logging for this process and returns the server's logger.

    Args:
        level: the lowest level that is logged.
        log_format: json (one object a line, with `event`, `level` and `timestamp`) or text.
        descriptor: the file descriptor to write to.
        instance: a field of every line; empty: omitted.
    """
    as_text = log_format == "text"
    output = LogOutput(descriptor)

    def add_lost_lines(_: object, __: str, event: _Event) -> _Event:
        return {**event, "lost_lines": output.lost} if output.lost else event

    structlog.configure(
        processors=[
            level,
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            add_lost_lines,
            *([] if as_text else [structlog.processors.format_exc_info]),
            _text_renderer(os.isatty(descriptor)) if as_text else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=_Logger,
        logger_factory=lambda *_: output,
        cache_logger_on_first_use=True,
    )
    log: Log = structlog.get_logger()
    return log.bind(instance=instance) if instance else log


def _text_renderer(colors: bool) -> Any:
    # structlog's default shows each frame's variables, such as the callers' tensors.
    return structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback)
