"""The transport chosen by the settings."""

import importlib.util
from pathlib import Path

import pytest

from pixelserve_server.app import Application
from pixelserve_server.deadline import Deadline
from pixelserve_server.errors import StartupError
from pixelserve_server.observe.logs import LogLevel, configure_logs
from pixelserve_server.settings import Settings


def chosen(transport: str, host: str, *, http: bool = True) -> str:
    settings = Settings(model_repository=Path("models"), transport=transport, host=host, http=http)
    level = LogLevel("error")
    application = Application(settings, configure_logs(level, "json"), level)
    name = application._transport.name
    application.stop(Deadline.after(10))
    return name


@pytest.mark.parametrize(
    ("transport", "name"),
    [("auto", "h2corn"), ("h2corn", "h2corn"), ("grpcio", "grpcio")],
)
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_auto_means_h2corn_on_every_address(transport: str, host: str, name: str) -> None:
    assert chosen(transport, host) == name


def test_without_its_library_auto_means_grpcio_without_http(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert chosen("auto", "127.0.0.1", http=False) == "grpcio"
    with pytest.raises(StartupError, match=r"pip install -e '\.\[server\]', or use --transport grpcio"):
        chosen("h2corn", "127.0.0.1", http=False)
    with pytest.raises(StartupError, match=r"the HTTP API needs h2corn; .* --no-http"):
        chosen("auto", "127.0.0.1")
