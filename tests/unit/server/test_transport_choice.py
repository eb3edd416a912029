"""Which transport the settings ask for."""

import importlib.util
from pathlib import Path

import pytest

from pixelserve_server.app import Application
from pixelserve_server.errors import StartupError
from pixelserve_server.observe.logs import LogLevel, configure_logs
from pixelserve_server.settings import Settings


def chosen(transport: str, host: str) -> str:
    settings = Settings(model_repository=Path("models"), transport=transport, host=host)
    level = LogLevel("error")
    application = Application(settings, configure_logs(level, "json"), level)
    name = application._transport.name
    application.abandon()
    return name


@pytest.mark.parametrize(
    ("transport", "host", "name"),
    [
        ("auto", "127.0.0.1", "fast"),
        ("auto", "::1", "fast"),
        ("auto", "localhost", "fast"),
        ("auto", "0.0.0.0", "grpcio"),
        ("auto", "example.org", "grpcio"),
        ("fast", "0.0.0.0", "fast"),
        ("grpcio", "127.0.0.1", "grpcio"),
    ],
)
def test_auto_means_the_fast_lane_on_loopback_only(transport: str, host: str, name: str) -> None:
    assert chosen(transport, host) == name


def test_without_its_library_auto_means_grpcio_and_fast_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert chosen("auto", "127.0.0.1") == "grpcio"
    with pytest.raises(StartupError, match=r"pip install -e '\.\[fast\]'"):
        chosen("fast", "127.0.0.1")
