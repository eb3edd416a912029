"""Floods of frames: a sender must not affect other clients."""

from typing import Any

import pytest
from attacks import ATTACKS

pytestmark = pytest.mark.slow

EFFORT = 20_000
GROWTH_MIB = {"h2corn": 96, "grpcio": 320}
"""More than any of them takes (docs/reliability.md), and less than what one without a bound would."""

# grpcio refuses random calls while more than a few thousand, cancelled ones included, wait for Python.
LOSSES = {("grpcio", name): "CANCELLED" for name in ("rapid reset", "rapid reset, over and over")}


@pytest.mark.parametrize("name", ATTACKS)
def test_a_flood_takes_little_memory_and_no_call_of_others(target: Any, name: str) -> None:
    loses = LOSSES.get((target.transport, name), "")
    with target.holds(growth_mib=GROWTH_MIB[target.transport], loses=loses):
        ATTACKS[name](target.address, EFFORT)
