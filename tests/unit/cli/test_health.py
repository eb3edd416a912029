"""`pixelserve health`: exit codes, and waiting."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from pixelserve.cli.health import wait_until_serving


@pytest.mark.parametrize(
    ("arguments", "status", "code"),
    [([], "SERVING", 0), (["busy"], "NOT_SERVING", 11), (["nobody"], "SERVICE_UNKNOWN", 11)],
)
def test_the_exit_code_shows_the_health(
    ask: Callable[..., Any], fake: Any, arguments: list[str], status: str, code: int
) -> None:
    fake.health["busy"] = 2
    ran = ask("health", *arguments)
    assert (ran.code, ran.out, ran.err) == (code, f"{status}\n", "")


def test_json_names_the_service(ask: Callable[..., Any]) -> None:
    assert json.loads(ask("health", "--json").out) == {"service": "", "status": "SERVING"}


def test_no_server_is_one_sentence_and_exit_code_5(run: Callable[..., Any], no_server: str) -> None:
    ran = run("health", "--address", no_server)
    assert ran.code == 5
    assert ran.out == ""
    assert len(ran.err.splitlines()) == 1


class Failed(Exception):
    """The client's error."""

    def __init__(self, exit_code: int) -> None:
        self.exit_code = exit_code


class Answers:
    """A server that comes up, on a clock that sleeping advances."""

    def __init__(self, *answers: str | Failed) -> None:
        self.answers = list(answers)
        self.asked = 0
        self.time_s = 0.0

    def ask(self) -> str:
        answer = self.answers[min(self.asked, len(self.answers) - 1)]
        self.asked += 1
        if isinstance(answer, Failed):
            raise answer
        return answer

    def sleep(self, duration_s: float) -> None:
        assert duration_s > 0
        self.time_s += duration_s

    def wait(self, wait_s: float) -> str:
        return wait_until_serving(self.ask, wait_s, now=lambda: self.time_s, sleep=self.sleep)


def test_waiting_goes_on_from_no_server_to_one_that_serves() -> None:
    answers = Answers(Failed(5), Failed(5), "NOT_SERVING", "SERVING")
    assert answers.wait(30) == "SERVING"
    assert answers.asked == 4
    assert answers.time_s == pytest.approx(0.6)


def test_waiting_ends_with_the_last_answer_when_the_time_is_over() -> None:
    answers = Answers("NOT_SERVING")
    assert answers.wait(1) == "NOT_SERVING"
    assert answers.time_s == pytest.approx(1)
    unreachable = Answers(Failed(5))
    with pytest.raises(Failed):
        unreachable.wait(1)
    assert unreachable.time_s == pytest.approx(1)


def test_without_waiting_it_asks_once() -> None:
    answers = Answers("NOT_SERVING")
    assert (answers.wait(0), answers.asked) == ("NOT_SERVING", 1)


def test_what_waiting_cannot_mend_ends_it_at_once() -> None:
    answers = Answers(Failed(4))
    with pytest.raises(Failed):
        answers.wait(30)
    assert answers.asked == 1
