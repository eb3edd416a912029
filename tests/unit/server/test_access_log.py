"""The access log: sampled calls, and their fields."""

from typing import Any

import pytest

from pixelserve_server.engine.request import ComputedBatch
from pixelserve_server.observe.access_log import AccessLog, Allowance
from pixelserve_server.observe.calls import AnsweredCall

SECOND_NS = 1_000_000_000


class Log:
    """Keeps lines, each with its level."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def info(self, event: str, **fields: Any) -> None:
        self.lines.append({"level": "info", "event": event, **fields})

    def warning(self, event: str, **fields: Any) -> None:
        self.lines.append({"level": "warning", "event": event, **fields})


def answered(**changes: Any) -> AnsweredCall:
    fields: dict[str, Any] = {
        "method": "/inference.GRPCInferenceService/ModelInfer",
        **{"via": "grpc", "code": "OK", "code_number": 0, "reason": "", "message": ""},
        **{"model": "digits", "version": "2", "request_id": "seven"},
        **{"started_ns": 5_000_000, "ended_ns": 6_500_000, "queued_ns": 0, "batch": None, "parent": None},
    }
    return AnsweredCall(**fields | changes)


def allowed(allowance: Allowance, *times_s: float) -> list[bool]:
    return [allowance.take(int(time_s * SECOND_NS)) for time_s in times_s]


def test_a_seconds_worth_may_come_at_once_and_then_one_after_another() -> None:
    allowance = Allowance(4)
    assert allowed(allowance, *[100.0] * 6) == [True] * 4 + [False] * 2
    assert allowed(allowance, 100.2, 100.25, 100.3, 100.5, 100.5) == [False, True, False, True, False]
    # A long pause saves up no more than a second's worth.
    assert allowed(allowance, *[200.0] * 6) == [True] * 4 + [False] * 2


def test_less_than_one_a_second_is_one_now_and_then() -> None:
    assert allowed(Allowance(0.1), 100, 100.1, 109.9, 110, 110.1, 120) == [True, False, False, True, False, True]


def test_nothing_a_second_is_never() -> None:
    assert allowed(Allowance(0), 0, 1e6) == [False, False]


def test_a_call_that_was_computed_has_its_durations() -> None:
    log, batch = Log(), ComputedBatch({}, 3, is_alone=False)
    batch.started_ns, batch.assembled_ns, batch.computed_ns = 5_250_000, 5_300_000, 6_250_000
    AccessLog(log, 1).write(answered(batch=batch, queued_ns=5_125_000, rows=2), "ab" * 16)
    assert log.lines == [
        {
            **{"level": "info", "event": "request", "method": "ModelInfer", "via": "grpc", "code": "OK"},
            **{"model": "digits", "version": "2", "request_id": "seven", "trace_id": "ab" * 16},
            **{"duration_ms": 1.5, "queue_ms": 0.125, "compute_ms": 1.0, "batch_size": 3, "rows": 2},
        }
    ]


def test_what_is_not_known_is_left_out() -> None:
    log = Log()
    AccessLog(log, 1).write(answered(model="", version="", request_id=""), "")
    assert log.lines[0].keys() == {"level", "event", "method", "via", "code", "duration_ms"}


@pytest.mark.parametrize(
    ("code", "level"), [("INVALID_ARGUMENT", "info"), ("NOT_FOUND", "info"), ("INTERNAL", "warning")]
)
def test_a_call_that_failed_says_why_and_a_servers_fault_is_a_warning(code: str, level: str) -> None:
    log = Log()
    AccessLog(log, 1).write(answered(code=code, reason="queue_full", message="too many"), "")
    (line,) = log.lines
    assert (line["level"], line["code"], line["reason"], line["message"]) == (level, code, "queue_full", "too many")
    assert "left_out" not in line


def test_failed_calls_without_a_line_are_counted_in_the_next_one() -> None:
    log = Log()
    access_log = AccessLog(log, 2)
    for time_s in [100.0] * 5 + [100.5, 101.0]:
        if access_log.wants_failure(int(time_s * SECOND_NS)):
            access_log.write(answered(code="NOT_FOUND", reason="not_found"), "")
    assert [line.get("left_out") for line in log.lines] == [None, None, 3, None]


def test_failures_and_successes_do_not_use_up_each_others_lines() -> None:
    access_log = AccessLog(Log(), 1)
    assert access_log.wants_failure(0)
    assert access_log.successes.take(0)


def test_names_of_any_length_make_lines_of_a_limited_one() -> None:
    log = Log()
    AccessLog(log, 1).write(answered(model="m" * 10_000, version="1" * 10_000, request_id="i" * 10_000), "")
    assert len(str(log.lines[0])) < 1000


def test_a_call_says_by_name_whose_token_it_came_with() -> None:
    log = Log()
    AccessLog(log, 1).write(answered(token="shop"), "")
    assert log.lines[0]["token"] == "shop"
