"""The log's two formats."""

import json
from collections.abc import Iterator
from datetime import datetime

import pytest
import structlog

from pixelserve_server.observe.logs import LogLevel, configure_logs


@pytest.fixture(autouse=True)
def _restore_structlog() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def test_an_event_is_one_json_object_with_event_level_and_timestamp(capfd: pytest.CaptureFixture[str]) -> None:
    configure_logs(LogLevel("info"), "json").info("model loaded", model="digits", load_s=0.5)
    captured = capfd.readouterr()
    assert captured.out == ""
    line = json.loads(captured.err)
    assert datetime.fromisoformat(line.pop("timestamp")).utcoffset() is not None
    assert line == {"event": "model loaded", "level": "info", "model": "digits", "load_s": 0.5}


def test_an_exception_is_in_the_same_line(capfd: pytest.CaptureFixture[str]) -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError as error:
        configure_logs(LogLevel("info"), "json").error("call failed", exc_info=error)
    (line,) = capfd.readouterr().err.splitlines()
    assert "Traceback" in json.loads(line)["exception"]
    assert "ValueError: two\nlines" in json.loads(line)["exception"]


def test_text_is_for_people(capfd: pytest.CaptureFixture[str]) -> None:
    configure_logs(LogLevel("info"), "text").info("model loaded", model="digits")
    shown = capfd.readouterr().err
    assert "model loaded" in shown
    assert "model=digits" in shown
    assert not shown.startswith("{")


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_what_a_caller_names_cannot_make_a_line_of_its_own(log_format: str, capfd: pytest.CaptureFixture[str]) -> None:
    named = 'seven\n{"event": "forged"}\r\x1b[2J\u2028'
    configure_logs(LogLevel("info"), log_format).info("request", request_id=named, message=named)
    shown = capfd.readouterr().err
    assert len(shown.splitlines()) == 1
    assert "\x1b[2J" not in shown


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_events_below_the_level_are_left_out(log_format: str, capfd: pytest.CaptureFixture[str]) -> None:
    log = configure_logs(LogLevel("warning"), log_format)
    log.info("quiet")
    log.warning("loud")
    shown = capfd.readouterr().err
    assert "loud" in shown
    assert "quiet" not in shown


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_the_level_may_change_after_lines_were_written(log_format: str, capfd: pytest.CaptureFixture[str]) -> None:
    level = LogLevel("info")
    log = configure_logs(level, log_format)
    for name in ("info", "debug", "warning", "error"):
        level.name = name  # type: ignore[assignment]
        for method in ("debug", "info", "warning", "error", "exception"):
            getattr(log, method)(f"{method} at {name}")
    shown = capfd.readouterr().err
    assert [line.split(" at ")[0].split()[-1].split('"')[-1] for line in shown.splitlines() if " at " in line] == [
        *("info", "warning", "error", "exception"),
        *("debug", "info", "warning", "error", "exception"),
        *("warning", "error", "exception"),
        *("error", "exception"),
    ]


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize("fields", [{}, {"value": Unprintable()}], ids=["whole", "cut short"])
def test_every_line_names_the_instance(fields: dict[str, object], capfd: pytest.CaptureFixture[str]) -> None:
    configure_logs(LogLevel("info"), "json", instance="pod-1").info("model loaded", **fields)
    assert json.loads(capfd.readouterr().err)["instance"] == "pod-1"
