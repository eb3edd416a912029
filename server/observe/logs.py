"""The log: structured events on standard error, as JSON lines or as text for people."""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, Literal, get_args

import structlog

Log = Any
"""A bound structlog logger; its methods take an event's name and its fields."""

LevelName = Literal["debug", "info", "warning", "error"]
LEVELS: tuple[LevelName, ...] = get_args(LevelName)
"""Least severe first."""


class LogLevel:
    """The least severe lines that are shown. May be changed from any thread, and holds from the next line on."""

    def __init__(self, name: LevelName) -> None:
        """Starts out with a level."""
        self.name: LevelName = name

    def __call__(self, _: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """Lets an event through, or ends its way; structlog's form of a processor."""
        numbers = logging.getLevelNamesMapping()
        # An exception, or anything else without a level of that name, is an error.
        if numbers.get(method.upper(), logging.ERROR) < numbers[self.name.upper()]:
            raise structlog.DropEvent
        return event


def configure_logs(level: LogLevel, log_format: str) -> Log:
    """Sets up logging for this process and returns the server's logger.

    Args:
        level: what is shown.
        log_format: json (one object a line, with `event`, `level` and `timestamp`) or text.
    """
    as_text = log_format == "text"
    for_people = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    structlog.configure(
        processors=[
            level,
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([] if as_text else [structlog.processors.format_exc_info]),
            for_people if as_text else structlog.processors.JSONRenderer(),
        ],
        # Made once, so that which of its methods do nothing cannot change: none does, and the level decides.
        wrapper_class=structlog.make_filtering_bound_logger(logging.NOTSET),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    return structlog.get_logger()
