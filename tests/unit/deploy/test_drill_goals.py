"""The drill's goals, on made-up calls: each can be missed."""

import argparse
import math
from typing import Any

import pytest

from deploy.drill.__main__ import plan
from deploy.drill.cases import CASES
from deploy.drill.clients import Record
from deploy.drill.goals import Goal, lost_there_only, no_failures, within_deadline
from deploy.drill.report import Row, lines
from deploy.drill.stage import Played

FAULT_S = 100.0


def record(began_s: float, ended_s: float, status: str = "OK", details: str = "1") -> Record:
    return Record(began_s, ended_s, status, details)


def played(*records: Record, balancer: str = "envoy", **marks: float) -> Played:
    return Played(
        {"plain": list(records)}, FAULT_S, FAULT_S + 10, "loopback addresses", balancer, marks, codes=[0, 0, 0]
    )


def met(goals: list[Goal]) -> list[bool]:
    return [each.is_met for each in goals]


def test_one_failed_call_misses_the_goal_and_says_how_it_failed() -> None:
    (goal,) = no_failures(played(record(1, 2), record(2, 3, "UNAVAILABLE", "GOAWAY received")))
    assert (goal.is_met, goal.figure) == (False, "1 × UNAVAILABLE GOAWAY received")
    assert met(no_failures(played(record(1, 2)))) == [True]


def test_calls_of_a_dead_server_are_distinguished_from_later_ones() -> None:
    had = record(FAULT_S - 1, FAULT_S + 1, "UNAVAILABLE", "")
    before_noticed = record(FAULT_S + 1, FAULT_S + 2, "UNAVAILABLE", "")
    later = record(FAULT_S + 4, FAULT_S + 5, "UNAVAILABLE", "")
    assert met(lost_there_only(played(had, before_noticed), FAULT_S, FAULT_S + 3, "it was noticed")) == [True]
    (goal,) = lost_there_only(played(had, before_noticed, later), FAULT_S, FAULT_S + 3, "it was noticed")
    assert not goal.is_met
    assert goal.figure == "1 in flight, 1 sent before it was noticed, 1 × UNAVAILABLE later"


def test_a_call_that_outlasts_its_deadline_misses_the_goal() -> None:
    assert within_deadline(played(record(1, 6)), 5).is_met
    assert not within_deadline(played(record(1, 60)), 5).is_met


def test_an_update_after_which_the_old_version_answers_misses_the_goal() -> None:
    old, new = record(FAULT_S + 11, FAULT_S + 12, details="1"), record(FAULT_S + 11, FAULT_S + 12, details="2")
    judge = CASES["update"].judge
    assert all(met(judge(played(new))))
    assert not all(met(judge(played(new, old))))


def test_a_restart_that_ends_a_server_with_unfinished_calls_misses_the_goal() -> None:
    ended = played(record(1, 2))
    assert all(met(CASES["restart"].judge(ended)))
    ended.codes[0] = 13
    assert not all(met(CASES["restart"].judge(ended)))


def test_a_bad_version_that_answers_or_becomes_ready_misses_the_goal() -> None:
    judge = CASES["bad-version"].judge
    good = played(record(1, 2), **{"became ready": False, "starts": 2})
    good.logs = {"pixelserve-4": "golden outputs differ"}
    assert all(met(judge(good)))
    good.marks["became ready"] = True
    assert not all(met(judge(good)))
    good.marks["became ready"] = False
    good.records["plain"].append(record(2, 3, details="2"))
    assert not all(met(judge(good)))


def test_a_joining_server_with_less_than_its_share_misses_the_goal() -> None:
    joined = played(record(1, 2), share=0.79)
    joined.records |= {"default": [], "sdk": []}
    assert not all(met(CASES["join"].judge(joined)))
    joined.marks["share"] = 0.8
    assert all(met(CASES["join"].judge(joined)))


def test_p99_is_of_answered_calls_in_their_time() -> None:
    steady = [record(each, each + 0.01) for each in range(90)]
    event = [record(FAULT_S + 1, FAULT_S + 3), record(FAULT_S + 1, FAULT_S + 9, "UNAVAILABLE")]
    found = played(*steady, *event)
    assert found.steady_p99_s == pytest.approx(0.01)
    assert found.event_p99_s == pytest.approx(2)
    assert math.isnan(played().steady_p99_s)


def test_a_row_says_which_goal_is_missed() -> None:
    goals = [Goal("no call fails", False, "1 × UNAVAILABLE"), Goal("it ends", True, "0")]
    row = Row("restart", "envoy", {"plain": 1500}, {"plain": 1}, 0.02, 0.01, "loopback addresses", goals)
    shown = lines(row)
    assert "plain 1,500 1" in shown
    assert "MISSED: no call fails: 1 × UNAVAILABLE" in shown
    assert not row.is_met
    assert row.as_json()["p99_ms"] == 20.0


def options(**given: Any) -> argparse.Namespace:
    return argparse.Namespace(**{"case": None, "balancer": "both", "tls": False, **given})


def test_every_case_is_played_behind_both_balancers_but_http_behind_envoy() -> None:
    planned = plan(options())
    assert len(planned) == len(set(planned)) == 2 * (len(CASES) + 1) - 1
    assert ("restart-http", "envoy") not in planned


def test_with_tls_only_what_speaks_it_is_played() -> None:
    planned = plan(options(tls=True))
    assert ("restart", "forwarder") in planned
    assert {balancer for _, balancer in planned} == {"forwarder"}
    assert plan(options(tls=True, balancer="envoy")) == []
