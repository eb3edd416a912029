"""Sessions are suspected, checked and replaced."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from pixelserve_server.engine.curve import LatencyCurve
from pixelserve_server.engine.instance import BrokenInstance, Instance

INPUTS = {"x": np.zeros(1)}


class Session:
    """Fails on request, when it runs, is warmed or is checked."""

    def __init__(self, *fails_in: str) -> None:
        self.fails_in = fails_in
        self.done: list[str] = []

    def do(self, what: str) -> None:
        self.done.append(what)
        if what in self.fails_in:
            raise RuntimeError(f"{what} failed")

    def run(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        self.do("run")
        return {"y": inputs["x"]}

    def warm(self) -> LatencyCurve:
        self.do("warm")
        return LatencyCurve((1,), (5,))

    def check(self) -> None:
        self.do("check")


def instance(session: Session, *successors: Session) -> Instance[Session]:
    return Instance(session, warm=Session.warm, check=Session.check, rebuild=list(successors).pop)


def fail(instance: Instance[Session], times: int) -> None:
    for _ in range(times):
        with pytest.raises(RuntimeError, match="run failed"):
            instance.run(INPUTS)


def test_it_runs_and_warms_its_session() -> None:
    session = Session()
    it = instance(session)
    assert it.warm() == LatencyCurve((1,), (5,))
    assert it.run(INPUTS) == {"y": INPUTS["x"]}
    assert session.done == ["warm", "run"]


def test_a_session_that_failed_twice_is_not_suspected() -> None:
    session = Session("run")
    it = instance(session)
    fail(it, 2)
    assert not it.repair()
    assert session.done == ["run", "run"]


def test_a_run_that_succeeds_clears_a_session() -> None:
    session = Session("run")
    it = instance(session)
    fail(it, 2)
    session.fails_in = ()
    it.run(INPUTS)
    session.fails_in = ("run",)
    fail(it, 2)
    assert not it.repair()
    assert "check" not in session.done


def test_a_suspect_that_computes_its_sample_is_kept_and_must_fail_three_times_more() -> None:
    session = Session("run")
    it = instance(session)
    for checks in (1, 2):
        fail(it, 3)
        assert not it.repair()
        assert session.done.count("check") == checks
        fail(it, 2)
        assert not it.repair()
        assert session.done.count("check") == checks
        session.fails_in = ()
        it.run(INPUTS)
        session.fails_in = ("run",)


def test_a_suspect_that_fails_its_check_is_replaced_by_one_that_was_warmed_and_checked() -> None:
    session, successor = Session("run", "check"), Session()
    it = instance(session, successor)
    fail(it, 3)
    assert it.repair()
    it.run(INPUTS)
    assert successor.done == ["warm", "check", "run"]
    assert not it.repair()


@pytest.mark.parametrize("failure", ["warm", "check"])
def test_a_successor_that_fails_breaks_the_instance(failure: str) -> None:
    it = instance(Session("run", "check"), Session(failure))
    fail(it, 3)
    with pytest.raises(BrokenInstance, match=f"{failure} failed"):
        it.repair()


def test_an_instance_that_cannot_be_rebuilt_breaks_with_what_its_check_raised() -> None:
    it = Instance(Session("run", "check"), check=Session.check)
    fail(it, 3)
    with pytest.raises(BrokenInstance, match="check failed"):
        it.repair()


def test_without_a_check_nothing_is_replaced() -> None:
    it = Instance(Session("run"), rebuild=Session)
    fail(it, 3)
    assert not it.repair()
