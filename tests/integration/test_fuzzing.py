"""Mutated input to every entry point: a few thousand here; `make fuzz` runs for hours."""

from pathlib import Path

import pytest
from fuzzing.watch import Fuzzing
from fuzzing.wire import TRANSPORTS, fuzz_wire

pytestmark = pytest.mark.slow

INPUTS = {"calls": 3000, "rest": 1000, "files": 150, "pictures": 2000}
# Far more than they take.
SECONDS = 600


@pytest.mark.parametrize("kind", INPUTS)
def test_mutated_input_is_answered_or_refused(kind: str, tmp_path: Path) -> None:
    """Nothing is INTERNAL, crashes, hangs, or takes more memory than it should; the corpus comes first."""
    result = Fuzzing(kind, seed=1, inputs=INPUTS[kind], seconds=SECONDS, saved=tmp_path).run()
    assert not result.failures
    assert result.inputs


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_mutated_frames_and_bytes_harm_no_neighbour(transport: str) -> None:
    connections, failures = fuzz_wire(transport, seed=1, connections=60, seconds=SECONDS)
    assert not failures
    assert connections == 60


def test_the_fuzzer_finds_and_keeps_what_fails(tmp_path: Path) -> None:
    """One target answers wrongly, one takes memory, one kills its process; the others go on after it."""
    result = Fuzzing("faulty", seed=1, inputs=30, seconds=SECONDS, saved=tmp_path).run()
    assert {failure.split(", ")[1] for failure in result.failures} == {"answers", "grows", "dies"}
    assert [path.read_bytes() for path in sorted(tmp_path.glob("*/*"))] == [b"bad"] * 3
    assert all(failure.startswith("seed 1, ") for failure in result.failures)
