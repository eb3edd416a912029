"""Components that must not raise: the failure log, and observers."""

from typing import Any

import pytest

from pixelserve_server.failures import FailureLog, guarded


class Recorder:
    """A log that keeps its lines, or raises."""

    def __init__(self, trouble: BaseException | None = None) -> None:
        self.lines: list[dict[str, Any]] = []
        self.trouble = trouble

    def error(self, event: str, **fields: Any) -> None:
        if self.trouble is not None:
            raise self.trouble
        self.lines.append({"event": event, **fields})


def test_a_failure_is_logged_under_the_id_that_its_caller_gets() -> None:
    log, error = Recorder(), ValueError("secret")
    request_id = FailureLog(log)(error)
    assert log.lines == [{"event": "unexpected failure", "request_id": request_id, "exc_info": error}]
    assert FailureLog(log)(error) != request_id


@pytest.mark.parametrize(
    "trouble", [BrokenPipeError(), OSError(28, "No space left on device"), ValueError(), KeyError()]
)
def test_a_log_that_fails_costs_nothing_but_the_line(trouble: Exception) -> None:
    assert FailureLog(Recorder(trouble))(ValueError()) != ""


def test_what_a_guarded_function_raises_is_logged() -> None:
    log, told = Recorder(), []

    def tell(what: str, *, loud: bool) -> None:
        told.append((what, loud))
        raise KeyError(what)

    guarded(tell, FailureLog(log))("a run", loud=True)
    assert told == [("a run", True)]
    (line,) = log.lines
    assert isinstance(line["exc_info"], KeyError)
