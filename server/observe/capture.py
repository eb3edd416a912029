"""Turns everything that other code writes to standard error into log lines."""

import faulthandler
import logging
import os
import re
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from ..failures import FailureLog, guarded
from .logs import LEVELS, STDERR, Log

# A line without an end is cut here.
_MAX_LINE_BYTES = 64 * 1024
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
# h2corn's start-up messages cannot be switched off; our own line says more.
_BANNER = re.compile(r"h2corn v[0-9.]+ |Listening on https?://|HTTP/1 compatibility is enabled")


@contextmanager
def stderr_in_log(configure: Callable[[int], Log]) -> Iterator[Log]:
    """Yields a log that also receives everything this process writes to standard error.

    ONNX Runtime, gRPC and the C library write to file descriptor 2, bypassing Python. It is replaced by a pipe, whose
    lines a thread logs. Python's warnings, loggers and uncaught exceptions are logged with their fields. Tracebacks of
    a crashing process go to the original standard error.

    Args:
        configure: returns the log that writes to a file descriptor.
    """
    # Kept open as long as the process lives, because a line may come at any time.
    real = _duplicate_stderr()
    log = configure(real)
    log_failure = FailureLog(log)
    source, end = os.pipe()
    os.dup2(end, STDERR)
    os.close(end)
    reader = threading.Thread(target=_read_lines, args=(source, log, log_failure), name="stderr", daemon=True)
    reader.start()
    try:
        with _python_in_log(log, log_failure), _crashes_to(real):
            yield log
    finally:
        if sys.stderr is not None:
            sys.stderr.flush()
        # The pipe's last writer is gone with this, so its reader ends.
        os.dup2(real, STDERR)
        reader.join()


def _duplicate_stderr() -> int:
    try:
        return os.dup(STDERR)
    except OSError:
        # The process was started without standard error (2>&-); the next opened file would take its descriptor.
        null = os.open(os.devnull, os.O_WRONLY)
        return null if null != STDERR else os.dup(null)


def _read_lines(source: int, log: Log, log_failure: FailureLog) -> None:
    # Continue after any error: without its reader the pipe would fill up and block every writer.
    log_line = guarded(_log_line, log_failure)
    rest = b""
    with open(source, "rb", buffering=0) as pipe:
        while chunk := pipe.read(_MAX_LINE_BYTES):
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) >= _MAX_LINE_BYTES:
                lines, rest = [*lines, rest], b""
            for line in lines:
                log_line(line, log)
    log_line(rest, log)


def _log_line(line: bytes, log: Log) -> None:
    text = _COLOUR.sub("", line.decode(errors="replace")).rstrip()
    if text and not _BANNER.match(text):
        log.warning("library output", message=text)


@contextmanager
def _python_in_log(log: Log, log_failure: FailureLog) -> Iterator[None]:
    """Sends Python's warnings, the libraries' loggers and uncaught exceptions to the log."""

    def show_warning(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        log.warning("python warning", category=category.__name__, message=str(message), place=f"{filename}:{lineno}")

    def on_unraisable(unraisable: "sys.UnraisableHookArgs") -> None:
        log_failure(unraisable.exc_value or RuntimeError(unraisable.err_msg))

    def on_thread_end(ended: threading.ExceptHookArgs) -> None:
        if ended.exc_value is not None and not isinstance(ended.exc_value, SystemExit):
            log_failure(ended.exc_value)

    handler = _ToLog(log)
    before = warnings.showwarning, sys.unraisablehook, threading.excepthook
    warnings.showwarning = guarded(show_warning, log_failure)
    sys.unraisablehook, threading.excepthook = on_unraisable, on_thread_end
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        warnings.showwarning, sys.unraisablehook, threading.excepthook = before


class _ToLog(logging.Handler):
    """Sends what libraries log to the server's log."""

    def __init__(self, log: Log) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        level = record.levelname.lower()
        fields: dict[str, Any] = {"exc_info": record.exc_info} if record.exc_info else {}
        try:
            message = record.getMessage()
        except Exception as error:  # noqa: BLE001  a library's message that does not fit its arguments
            message = f"{record.msg} ({type(error).__name__})"
        method = getattr(self._log, level if level in LEVELS else "error")
        method("library output", library=record.name, message=message, **fields)


@contextmanager
def _crashes_to(descriptor: int) -> Iterator[None]:
    """Makes a crash in native code write its tracebacks to `descriptor`: no thread would be left to read a pipe."""
    was_enabled = faulthandler.is_enabled()
    faulthandler.enable(descriptor)
    try:
        yield
    finally:
        if was_enabled:
            faulthandler.enable(STDERR)
        else:
            faulthandler.disable()
