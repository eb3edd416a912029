"""The cores of servers and load generators."""

import os

import pytest

from benchmarks.compare import cores
from benchmarks.compare.errors import MissingToolError


@pytest.mark.parametrize(
    ("usable", "server", "load", "both"),
    [
        pytest.param({0, 1}, "0", "1", "0,1", id="two: a server on both shares one with the load"),
        pytest.param({3, 5, 9, 11}, "3", "5", "3,9", id="more: it does not"),
    ],
)
def test_a_server_on_two_cores_leaves_the_load_its_own_if_the_machine_has_three(
    monkeypatch: pytest.MonkeyPatch, usable: set[int], server: str, load: str, both: str
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: usable)
    chosen = cores.choose()
    assert [pin[-1] for pin in (chosen.pin_server(), chosen.pin_load(), chosen.pin_server(2))] == [server, load, both]


def test_one_core_is_not_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {7})
    with pytest.raises(MissingToolError, match="needs two cores"):
        cores.choose()
