"""Addresses for servers: network namespaces on a bridge if possible, else loopback addresses."""

import ipaddress
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """The address and command prefix of one server."""

    address: str
    """Its IP address."""
    prefix: tuple[str, ...] = ()
    """Command prefix that enters its network namespace."""


class Loopback:
    """Gives every server its own address in 127.0.0.0/8."""

    kind = "loopback addresses"

    def __init__(self) -> None:
        self._network = f"127.{os.getpid() // 250 % 250 + 1}.{os.getpid() % 250}"
        self._number = 1
        self.balancer = f"{self._network}.1"

    def place(self) -> Place:
        """Returns a new place."""
        self._number += 1
        return Place(f"{self._network}.{self._number}")

    def close(self) -> None:
        """Does nothing: loopback addresses need no cleanup."""


class Namespaces:
    """Gives every server its own network namespace; balancers and clients run outside, on the bridge's address."""

    kind = "network namespaces"

    def __init__(self) -> None:
        """Creates the bridge.

        Raises:
            subprocess.CalledProcessError: no permission.
        """
        self._bridge = f"drill{os.getpid()}"
        self._network = _free_network()
        self._names: list[str] = []
        self.balancer = f"{self._network}.1"
        _ip("link", "add", "name", self._bridge, "type", "bridge")
        _ip("addr", "add", f"{self.balancer}/24", "dev", self._bridge)
        _ip("link", "set", self._bridge, "up")

    def place(self) -> Place:
        """Creates a namespace and connects it to the bridge."""
        number = len(self._names) + 2
        name, outside, inside = f"{self._bridge}-{number}", f"d{os.getpid()}o{number}", f"d{os.getpid()}i{number}"
        address = f"{self._network}.{number}"
        _ip("netns", "add", name)
        self._names.append(name)
        _ip("link", "add", "name", outside, "type", "veth", "peer", "name", inside, "netns", name)
        _ip("link", "set", outside, "master", self._bridge, "up")
        for device in ("lo", inside):
            _ip("-n", name, "link", "set", device, "up")
        _ip("-n", name, "addr", "add", f"{address}/24", "dev", inside)
        return Place(address, ("ip", "netns", "exec", name))

    def close(self) -> None:
        """Removes the namespaces and the bridge, ignoring errors."""
        for arguments in (*(("netns", "del", name) for name in self._names), ("link", "del", self._bridge)):
            with suppress(subprocess.CalledProcessError):
                _ip(*arguments)


@contextmanager
def topology(kind: str = "auto") -> Iterator[Namespaces | Loopback]:
    """Yields namespaces if they work (`auto`, `namespaces`), else loopback addresses; cleans up afterwards."""
    network: Namespaces | Loopback = Loopback() if kind == "loopback" else _namespaces_or_loopback()
    try:
        yield network
    finally:
        network.close()


def _namespaces_or_loopback() -> Namespaces | Loopback:
    if os.geteuid() or shutil.which("ip") is None:
        return Loopback()
    try:
        network = Namespaces()
    except subprocess.CalledProcessError:
        return Loopback()
    try:
        # Even root in a container may not be allowed to create namespaces.
        network.place()
    except subprocess.CalledProcessError:
        network.close()
        return Loopback()
    return network


def _free_network() -> str:
    """Returns the first three octets of a private /24 network without a route."""
    taken = [
        ipaddress.ip_network(route["dst"], strict=False)
        for route in json.loads(_ip("-j", "-4", "route"))
        if route["dst"] != "default"
    ]
    for third in range(os.getpid() % 250, 255):
        prefix = f"10.219.{third}"
        if not any(ipaddress.ip_network(f"{prefix}.0/24").overlaps(each) for each in taken):
            return prefix
    raise OSError("no network in 10.219.0.0/16 is free; remove routes to it, or use --network loopback")


def _ip(*arguments: str) -> str:
    command = (shutil.which("ip") or "ip", *arguments)
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
