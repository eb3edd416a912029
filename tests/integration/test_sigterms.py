"""SIGTERM in random states: one round of each here; tests/support/sigterms.py runs hundreds."""

import pytest
import sigterms

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.mark.parametrize("number", range(len(sigterms.STATES)), ids=lambda number: sigterms.STATES[number].__name__)
def test_a_server_ends_in_time_and_loses_nothing(number: int, transport: str) -> None:
    ended = sigterms.play(number, seed=1, transport=transport)
    # A busy machine takes its time; what hangs takes longer.
    assert ended.is_right(allowed_s=25), ended
