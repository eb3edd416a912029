"""Connections within the process's limit on open files."""

import resource

import pytest

from pixelserve_server.transport.descriptors import connections_that_fit

INFINITE = resource.RLIM_INFINITY


@pytest.mark.parametrize(
    ("soft", "hard", "fit", "raised_to"),
    [
        pytest.param(100_000, 100_000, 1000, 100_000, id="there is room"),
        pytest.param(2256, 2256, 1000, 2256, id="there is just room"),
        pytest.param(1024, 100_000, 1000, 2256, id="room can be made"),
        pytest.param(1024, INFINITE, 1000, 2256, id="room can be made without an end"),
        pytest.param(INFINITE, INFINITE, 1000, INFINITE, id="there is no limit"),
        pytest.param(1024, 2000, 872, 2000, id="some room can be made"),
        pytest.param(1024, 1024, 384, 1024, id="no room can be made"),
        pytest.param(64, 64, 1, 64, id="there is none"),
    ],
)
def test_connections_fit_beside_everything_else_that_is_open(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, fit: int, raised_to: int
) -> None:
    limits = [(soft, hard)]
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _, pair: limits.append(pair))
    assert connections_that_fit(1000) == fit
    assert limits[-1] == (raised_to, hard)
