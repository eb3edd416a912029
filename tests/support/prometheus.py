"""A Prometheus with the project's rules, which scrapes one server."""

import json
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

RULES = Path(__file__).resolve().parent.parent.parent / "deploy" / "prometheus"
_TIMEOUT_S = 60.0


class Prometheus:
    """One that is running, at host:port."""

    def __init__(self, address: str) -> None:
        self._address = address

    def ask(self, path: str, **parameters: str) -> Any:
        """Returns the `data` of /api/v1/PATH with these parameters."""
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"http://{self._address}/api/v1/{path}?{query}", timeout=_TIMEOUT_S) as answer:
            return json.load(answer)["data"]

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self._address}/-/ready", timeout=_TIMEOUT_S) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, ConnectionError):
            return False


@contextmanager
def scraping(metrics_url: str, folder: Path) -> Iterator[Prometheus]:
    """Runs a Prometheus on a free port until the block ends; it scrapes the server every half second.

    Args:
        metrics_url: the server's metrics page.
        folder: an empty one, for its configuration, log and data.
    """
    address = f"127.0.0.1:{_free_port()}"
    command = ["prometheus", f"--config.file={_configuration(metrics_url, folder)}", f"--web.listen-address={address}"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [*command, f"--storage.tsdb.path={folder / 'data'}"], stdout=log, stderr=subprocess.STDOUT
        )
    try:
        running = Prometheus(address)
        end_s = time.monotonic() + _TIMEOUT_S
        while not running.is_ready():
            assert process.poll() is None, (folder / "log").read_text()[-2000:]
            assert time.monotonic() < end_s, (folder / "log").read_text()[-2000:]
            time.sleep(0.05)
        yield running
    finally:
        process.terminate()
        process.wait(_TIMEOUT_S)


def _configuration(metrics_url: str, folder: Path) -> Path:
    """Writes the project's configuration for this server, with short intervals."""
    config = yaml.safe_load((RULES / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "500ms", "evaluation_interval": "1s"}
    config["rule_files"] = [str(RULES / "rules.yml")]
    config["scrape_configs"][0]["static_configs"] = [{"targets": [urllib.parse.urlsplit(metrics_url).netloc]}]
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(config))
    return path


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])
