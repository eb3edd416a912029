"""The balancers between clients and servers: Envoy, or a plain TCP forwarder, each in its own process."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import chart
from .chart import ROOT, ToolError
from .pods import GRPC_PORT, HTTP_PORT

_START_S = 20.0
# The chart's name for the servers in Envoy.
_CLUSTER = "stable"
_EDS = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"


class Balancer:
    """A process that forwards connections or calls to the last published addresses.

    Args:
        host: address to listen on.
        folder: for its configuration, its endpoints and its log.
    """

    name: str

    def __init__(self, host: str, folder: Path) -> None:
        self._host = host
        self._endpoints = folder / f"{self.name}-endpoints.json"
        self._log = folder / f"{self.name}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.grpc, self.http = (f"{host}:{free_port(host)}" for _ in range(2))
        self.publish([])

    def publish(self, addresses: list[str]) -> None:
        """Routes new connections or calls to these addresses."""
        beside = self._endpoints.with_suffix(".new")
        beside.write_text(json.dumps(self._described(addresses)))
        beside.replace(self._endpoints)

    def start(self) -> None:
        """Starts it, and returns when it accepts connections.

        Raises:
            ToolError: it does not start.
        """
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command(), stdout=log, stderr=log, cwd=ROOT)
        host, _, port = self.grpc.rpartition(":")
        end_s = time.monotonic() + _START_S
        while not _is_open(host, int(port)):
            if time.monotonic() > end_s or self._process.poll() is not None:
                raise ToolError(f"{self.name} did not start; its log ends with:\n{self._log.read_text()[-2000:]}")
            time.sleep(0.05)

    def close(self) -> None:
        """Stops it."""
        if self._process:
            self._process.kill()
            self._process.wait()

    def _described(self, addresses: list[str]) -> Any:
        return addresses

    def _command(self) -> list[str]:
        raise NotImplementedError


class Forwarder(Balancer):
    """Like a ClusterIP: a connection stays with its server."""

    name = "forwarder"

    def _command(self) -> list[str]:
        command = [sys.executable, "-m", "deploy.drill.forwarder", "--endpoints", str(self._endpoints)]
        return [*command, "--listen", f"{self.grpc}={GRPC_PORT}", "--listen", f"{self.http}={HTTP_PORT}"]


class Envoy(Balancer):
    """The chart's Envoy: balances calls, checks health, and retries. A file replaces DNS."""

    name = "envoy"

    def __init__(self, host: str, folder: Path) -> None:
        self._folder = folder
        super().__init__(host, folder)

    def _described(self, addresses: list[str]) -> Any:
        endpoints = [
            {"endpoint": {"address": {"socket_address": {"address": each, "port_value": GRPC_PORT}}}}
            for each in addresses
        ]
        resource = {"@type": _EDS, "cluster_name": _CLUSTER, "endpoints": [{"lb_endpoints": endpoints}]}
        return {"version_info": str(time.monotonic_ns()), "resources": [resource]}

    def _command(self) -> list[str]:
        config = self._folder / "envoy.json"
        config.write_text(json.dumps(self._adapted(chart.envoy_config())))
        command = [chart.program("envoy"), "--config-path", str(config), "--disable-hot-restart"]
        return [*command, "--concurrency", "1", "--log-level", "warning"]

    def _adapted(self, config: dict[str, Any]) -> dict[str, Any]:
        """Replaces the cluster's addresses with the drill's."""
        resources = config["static_resources"]
        (listener,) = (each for each in resources["listeners"] if each["name"] == "grpc")
        (cluster,) = (each for each in resources["clusters"] if each["name"] == _CLUSTER)
        host, _, port = self.grpc.rpartition(":")
        listener["address"]["socket_address"] = {"address": host, "port_value": int(port)}
        config["admin"]["address"]["socket_address"]["port_value"] = free_port("127.0.0.1")
        del cluster["load_assignment"]
        source = {"path": str(self._endpoints), "watched_directory": {"path": str(self._folder)}}
        cluster |= {"type": "EDS", "eds_cluster_config": {"eds_config": {"path_config_source": source}}}
        cluster["eds_cluster_config"]["eds_config"]["resource_api_version"] = "V3"
        named = {"node": {"id": "drill", "cluster": "drill"}}
        return config | named | {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


BALANCERS: Mapping[str, type[Balancer]] = {"envoy": Envoy, "forwarder": Forwarder}


def free_port(host: str) -> int:
    """Returns a free port."""
    with socket.create_server((host, 0)) as free:
        return int(free.getsockname()[1])


def _is_open(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True
