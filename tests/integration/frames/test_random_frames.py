"""Random frames: a few thousand here; tests/support/random_frames.py sends them for hours."""

from typing import Any

import pytest
import random_frames

pytestmark = pytest.mark.slow

CONNECTIONS = 150


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_random_frames_affect_no_other_client(target: Any, seed: int) -> None:
    with target.holds(growth_mib=128):
        sent = sum(random_frames.send(target.address, seed, number) for number in range(1, CONNECTIONS + 1))
    assert sent > CONNECTIONS
