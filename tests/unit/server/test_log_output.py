"""A log whose reader leaves, hangs or is full: lines are lost, but nothing raises or blocks."""

import json
import os
import select
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import structlog

from pixelserve_server.observe.logs import LogLevel, configure_logs
from pixelserve_server.observe.output import LogOutput


@dataclass
class Pipe:
    """A pipe that a log writes to."""

    source: int
    end: int

    def is_readable(self) -> bool:
        return bool(select.select([self.source], [], [], 0)[0])

    def read(self) -> list[str]:
        """Returns the lines that are there."""
        received = b""
        while self.is_readable():
            received += os.read(self.source, 1 << 20)
        return received.decode().splitlines()


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    """A pipe, closed after the test."""
    made = Pipe(*os.pipe())
    yield made
    os.close(made.source)
    os.close(made.end)


@pytest.fixture
def log(pipe: Pipe) -> Iterator[Any]:
    """A log that writes to the pipe."""
    yield configure_logs(LogLevel("info"), "json", pipe.end)
    structlog.reset_defaults()


def test_a_long_line_arrives_whole(pipe: Pipe, log: Any) -> None:
    log.info("long", text="x" * 30_000)
    (line,) = pipe.read()
    assert json.loads(line)["text"] == "x" * 30_000


def test_a_reader_that_has_left_costs_the_lines(log: Any) -> None:
    source, end = os.pipe()
    os.close(source)
    try:
        output = LogOutput(end)
        output.write("lost")
        output.write("lost too")
        assert output.lost == 2
    finally:
        os.close(end)


def test_a_full_disk_costs_the_lines() -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        output = LogOutput(full)
        output.write("there is no room")
        assert output.lost == 1
    finally:
        os.close(full)


def test_a_reader_that_falls_asleep_is_not_waited_for_and_hears_how_much_it_missed(pipe: Pipe, log: Any) -> None:
    """Timeline: 1. the pipe is filled and not read; 2. more lines are written; 3. the reader wakes; 4. the next
    line is whole and says how many are missing."""
    sent = 0
    while select.select([], [pipe.end], [], 0)[1]:
        log.info("filling", text="x" * 3000)
        sent += 1
    for _ in range(500):
        log.info("no room")
    received = pipe.read()
    log.info("awake")
    *rest, awake = [json.loads(line) for line in pipe.read() if line.endswith("}")]
    assert (awake["event"], rest) == ("awake", [])
    assert sent - len([line for line in received if line.endswith("}")]) + 500 == awake["lost_lines"]
    log.info("as before")
    assert "lost_lines" not in json.loads(*pipe.read())


def test_the_beginning_of_a_line_that_was_lost_does_not_become_that_of_the_next(pipe: Pipe) -> None:
    """Timeline: 1. the pipe is full but for one page; 2. a line of three pages begins; 3. the reader wakes, and
    the next line is written."""
    while select.select([], [pipe.end], [], 0)[1]:
        os.write(pipe.end, bytes(select.PIPE_BUF))
    os.read(pipe.source, select.PIPE_BUF)
    output = LogOutput(pipe.end)
    output.write("x" * 3 * select.PIPE_BUF)
    assert output.lost == 1
    *_, half = pipe.read()
    assert half.endswith("x")
    output.write("whole")
    assert pipe.read() == ["", "whole"]


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no")


def test_a_field_that_cannot_be_shown_costs_the_fields_only(pipe: Pipe, log: Any) -> None:
    log.warning("odd", value=Unprintable())
    (line,) = pipe.read()
    assert json.loads(line) == {"event": "odd", "level": "warning", "not_shown": "a field raised RuntimeError"}


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_a_traceback_shows_no_tensors(pipe: Pipe, log_format: str) -> None:
    def fail(tensor: list[int]) -> None:
        raise ValueError("of this line")

    log = configure_logs(LogLevel("info"), log_format, pipe.end)
    try:
        fail([int("1" * 9)] * 50)
    except ValueError as error:
        log.error("call failed", exc_info=error)
    structlog.reset_defaults()
    shown = "\n".join(pipe.read())
    assert "of this line" in shown
    assert "111111111" not in shown
