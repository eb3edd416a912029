"""A short soak over each transport; `make soak` runs for half an hour."""

import pytest
from fuzzing.wire import TRANSPORTS
from soaking.soak import soak

pytestmark = [pytest.mark.slow, pytest.mark.alone]

ROUNDS = 4


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_every_call_of_mixed_traffic_is_accounted_for(transport: str) -> None:
    """Sent is answered + refused + cancelled, to the call, by the clients and by the metrics; nothing is left over."""
    report = soak(transport, 1, rounds=ROUNDS)
    assert not report.problems
    assert not report.growth()
    assert min(report.ledger.totals().values()) > 0
