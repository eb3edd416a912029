"""A slow load reports its current step."""

import threading
from typing import Any

import pytest

from pixelserve_server.repository.progress import Progress


def test_a_load_that_takes_long_reports_its_current_step_again_and_again() -> None:
    reports: list[tuple[str, float]] = []
    twice = threading.Event()

    def report(step: str, elapsed_s: float) -> None:
        reports.append((step, elapsed_s))
        if len(reports) == 2:
            twice.set()

    with Progress(report, "reading the configuration", first_s=0.001, again_s=0.001) as progress:
        assert twice.wait(60)
        twice.clear()
        reports.clear()
        progress.step("opening the model")
        assert twice.wait(60)
    # A report that was on its way may still have the step before.
    assert {step for step, _ in reports[1:]} == {"opening the model"}
    assert 0 < reports[0][1] < reports[1][1]


def test_a_report_before_the_first_change_of_step_has_a_step() -> None:
    reports: list[tuple[str, float]] = []
    reported = threading.Event()

    def report(step: str, elapsed_s: float) -> None:
        reports.append((step, elapsed_s))
        reported.set()

    with Progress(report, "reading the configuration", first_s=0.001, again_s=3600):
        assert reported.wait(60)
    assert reports[0][0] == "reading the configuration"


def test_a_load_that_is_done_reports_nothing_any_more() -> None:
    reports: list[Any] = []
    with Progress(lambda *report: reports.append(report), "reading the configuration", first_s=3600) as progress:
        progress.step("opening the model")
    assert reports == []
    assert all(thread.name != "load progress" for thread in threading.enumerate())


def test_a_load_that_fails_ends_its_reports() -> None:
    with pytest.raises(ValueError, match="damaged"), Progress(lambda *_: None, "reading", first_s=3600):
        raise ValueError("damaged")
    assert all(thread.name != "load progress" for thread in threading.enumerate())
