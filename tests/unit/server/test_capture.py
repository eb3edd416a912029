"""Output to standard error becomes lines of the log."""

import json
import subprocess
import sys
import textwrap
from typing import Any

import pytest

# Each runs a process, because capturing affects the whole process.
pytestmark = pytest.mark.slow

TIMEOUT_S = 60

_START = """
import logging, os, sys, threading, warnings
from pixelserve_server.observe.capture import stderr_in_log
from pixelserve_server.observe.logs import LogLevel, configure_logs

with stderr_in_log(lambda descriptor: configure_logs(LogLevel("info"), "json", descriptor)) as log:
"""


def run(body: str, **options: Any) -> "subprocess.CompletedProcess[str]":
    """Runs code inside the context."""
    code = _START + textwrap.indent(textwrap.dedent(body), "    ")
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, **options)


def events(body: str) -> list[dict[str, Any]]:
    done = run(body)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stderr.splitlines()]


def messages(body: str) -> list[str]:
    return [line["message"] for line in events(body)]


def test_lines_that_native_code_writes_come_without_their_colour() -> None:
    assert messages(r'os.write(2, b"\x1b[1;31m[E:runtime]\x1b[m no such\nnode\n\n")') == ["[E:runtime] no such", "node"]


def test_a_line_without_an_end_is_not_lost() -> None:
    assert messages('os.write(2, b"half a line")') == ["half a line"]


def test_bytes_that_are_no_text_and_lines_without_end_are_taken() -> None:
    short, *long = messages(r'os.write(2, b"\xff\n" + b"x" * 200_000)')
    assert short == "�"
    assert "".join(long) == "x" * 200_000


def test_what_python_prints_is_there_too() -> None:
    assert messages("print('printed', file=sys.stderr)") == ["printed"]


def test_a_warning_says_its_category_and_place() -> None:
    (line,) = events('warnings.warn("old", UserWarning)')
    assert (line["event"], line["level"], line["message"]) == ("python warning", "warning", "old")
    assert line["category"] == "UserWarning"
    assert line["place"].endswith(":7")


def test_what_a_library_logs_has_its_level_and_traceback() -> None:
    (line,) = events(
        """
        try:
            raise ValueError("inside")
        except ValueError:
            logging.getLogger("grpc._server").exception("calling %s", "application")
        """
    )
    assert (line["level"], line["library"], line["message"]) == ("error", "grpc._server", "calling application")
    assert "ValueError: inside" in line["exception"]


def test_a_librarys_message_that_does_not_fit_its_arguments_is_shown() -> None:
    assert messages('logging.getLogger("odd").error("%d %d", 1)') == ["%d %d (TypeError)"]


def test_an_exception_that_ends_a_thread_is_an_unexpected_failure() -> None:
    (line,) = events(
        """
        def fail():
            raise ValueError("in a thread")
        thread = threading.Thread(target=fail)
        thread.start()
        thread.join()
        """
    )
    assert line["event"] == "unexpected failure"
    assert "ValueError: in a thread" in line["exception"]


def test_an_exception_in_a_destructor_is_an_unexpected_failure() -> None:
    (line,) = events(
        """
        class Fails:
            def __del__(self):
                raise ValueError("in a destructor")
        Fails()
        """
    )
    assert line["event"] == "unexpected failure"
    assert "ValueError: in a destructor" in line["exception"]


def test_afterwards_standard_error_is_as_it_was() -> None:
    code = _START + "    pass\nprint('printed', file=sys.stderr)\nos.write(2, b'native\\n')\nwarnings.warn('old')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=TIMEOUT_S)
    printed, native, warning, *_ = done.stderr.splitlines()
    assert (printed, native) == ("printed", "native")
    assert warning.endswith("UserWarning: old")


def test_a_crash_leaves_tracebacks_on_standard_error() -> None:
    done = run("os.abort()")
    assert done.returncode < 0
    assert "Fatal Python error: Aborted" in done.stderr


def test_a_process_without_standard_error_goes_on() -> None:
    code = _START + "    log.info('unread'); os.write(2, b'unread too\\n')\nprint('done')"
    command = ["sh", "-c", 'exec "$0" -c "$1" 2>&-', sys.executable, code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert (done.returncode, done.stdout) == (0, "done\n")
