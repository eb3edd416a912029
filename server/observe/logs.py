"""The log: structured events on standard error, as JSON lines or as text for people."""

import logging
import sys
from typing import Any

import structlog

Log = Any
"""A bound structlog logger; its methods take an event's name and its fields."""


def configure_logs(level: str, log_format: str) -> Log:
    """Sets up logging for this process and returns the server's logger.

    Args:
        level: debug, info, warning or error.
        log_format: json (one object a line, with `event`, `level` and `timestamp`) or text.
    """
    as_text = log_format == "text"
    for_people = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([] if as_text else [structlog.processors.format_exc_info]),
            for_people if as_text else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    return structlog.get_logger()
