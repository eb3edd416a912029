"""When a candidate counts as better than the serving version."""

import math
from pathlib import Path

import numpy as np
import pytest

from pixelserve_training.measuring.challenge import decide, serving_version


def test_the_first_decision_is_exact() -> None:
    """Five heads in five throws: 1 in 32, below 5 %. Four in four: 1 in 16, above."""
    five = decide(np.array([True] * 5), np.array([False] * 5), number=1)
    assert five.publish
    assert five.p_value is not None
    assert math.isclose(five.p_value, 1 / 32)
    four = decide(np.array([True] * 4), np.array([False] * 4), number=1)
    assert not four.publish
    assert "at least 0.05" in four.reason


def test_samples_on_which_both_agree_decide_nothing() -> None:
    agreed = np.arange(60_000) % 10 > 0
    decision = decide(agreed, agreed, number=4)
    assert (decision.publish, decision.p_value) == (False, 1.0)
    assert decision.candidate_accuracy == decision.serving_accuracy == 0.9
    assert decision.reason == (
        "of 60,000 samples the candidate gets 90.00% right and version 4 90.00%; 0 only the candidate, 0 only "
        "version 4; the candidate has no lead"
    )


@pytest.mark.parametrize(("won", "lost", "expected"), [(60, 40, 0.0284), (59, 41, 0.0443), (58, 42, 0.0666)])
def test_a_lead_among_the_samples_that_differ_decides(won: int, lost: int, expected: float) -> None:
    """Expected: the binomial distribution's tables for 100 throws."""
    candidate = np.array([True] * won + [False] * lost + [True] * 900)
    serving = np.array([False] * won + [True] * lost + [True] * 900)
    decision = decide(candidate, serving, number=1)
    assert (decision.only_candidate_right, decision.only_serving_right) == (won, lost)
    assert decision.p_value == pytest.approx(expected, abs=5e-5)
    assert decision.publish is (expected < 0.05)


def test_fewer_mistakes_by_chance_do_not_replace_a_version() -> None:
    """Equally good versions: of 400 comparisons, about 5 % are published, where a plain rule publishes half."""
    random = np.random.default_rng(0)
    decisions = [decide(*(random.random((2, 1000)) < 0.9), number=1) for _ in range(400)]
    assert sum(decision.publish for decision in decisions) < 40


def test_the_serving_version_is_the_one_that_answers_without_a_version(tmp_path: Path) -> None:
    folder = tmp_path / "digits"
    assert serving_version(folder) is None
    for number in (1, 2, 10):
        (folder / str(number)).mkdir(parents=True)
    assert serving_version(folder) == 10
    config = folder / "config.pbtxt"
    config.write_text("version_policy { specific { versions: [ 1, 2 ] } }")
    assert serving_version(folder) == 2
    config.write_text('parameters { key: "stable" value { string_value: "1" } }')
    assert serving_version(folder) == 1
