"""The configuration of both clients: addresses, channel options and credentials.

Several addresses share one gRPC channel with gRPC's round robin if gRPC can express them (a DNS name, or a list of IP
addresses); otherwise they get a channel each, used in turn.
"""

import ipaddress
import itertools
import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, Generic, TypeVar

import grpc

from .errors import SettingsError
from .limits import Retry, Tls

CLASSIFY = "/pixelserve.v1.Classifier/Classify"
LIST_MODELS = "/pixelserve.v1.Classifier/ListModels"
LOAD_MODEL = "/inference.GRPCInferenceService/RepositoryModelLoad"
UNLOAD_MODEL = "/inference.GRPCInferenceService/RepositoryModelUnload"
CHECK = "/grpc.health.v1.Health/Check"

_OPTIONS: tuple[tuple[str, Any], ...] = (
    # gRPC's retries are off: they would multiply ours and ignore the caller's `Retry`.
    ("grpc.enable_retries", 0),
    # Without this, a DNS record could set its own policy, with retries.
    ("grpc.service_config_disable_resolution", 1),
    ("grpc.service_config", json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})),
    # A restarted server is found within `Retry`'s attempts, not after gRPC's 1 s.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 5000),
    # Lists of models contain their cards.
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
)

# Where gRPC looks for a proxy, in order; the first that is set counts.
_PROXY_VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy")
_NO_PROXY = ("grpc.enable_http_proxy", 0)

_Channel = TypeVar("_Channel")


@dataclass(frozen=True)
class Endpoint:
    """The target and options of one gRPC channel."""

    target: str
    """gRPC's target name."""
    address: str
    """The address as given by the caller, for messages."""
    options: tuple[tuple[str, Any], ...] = _OPTIONS
    """gRPC's channel arguments."""
    proxy: str = ""
    """The environment variable of the proxy that gRPC may use, or empty."""


@dataclass(frozen=True)
class Configuration:
    """A client's arguments, checked."""

    endpoints: tuple[Endpoint, ...]
    """One per channel."""
    credentials: grpc.ChannelCredentials | None
    """TLS credentials; None: plain text."""
    metadata: tuple[tuple[str, str], ...] = field(repr=False)
    """Sent with every call; not in the repr, because it may contain the token."""
    timeout_s: float
    """Default seconds per call, including all attempts."""
    retry: Retry
    """When to retry calls."""
    batch_size: int
    """Maximum pictures per request."""
    max_in_flight: int
    """Maximum concurrent requests of one client for many pictures."""

    @classmethod
    def of(
        cls,
        target: str | Sequence[str],
        *,
        timeout_s: float,
        retry: Retry,
        tls: Tls | None,
        token: str | None,
        token_over_plain_text: bool = False,
        batch_size: int,
        max_in_flight: int,
    ) -> "Configuration":
        """Checks a client's arguments and reads the certificates.

        Raises:
            SettingsError: an argument is invalid; the message names it.
        """
        addresses = [target] if isinstance(target, str) else list(target)
        if not addresses or not all(addresses):
            raise SettingsError("target is empty; expected an address such as 127.0.0.1:8001, or a list of them")
        if wrong := next((each for each in addresses if each.startswith(("http://", "https://"))), None):
            raise SettingsError(f"target must be host:port, without http://; got {wrong}; for encryption, use tls")
        for name, value in (("batch_size", batch_size), ("max_in_flight", max_in_flight)):
            if value < 1:
                raise SettingsError(f"{name} must be at least 1; got {value}")
        return cls(
            endpoints=_endpoints(addresses, tls),
            credentials=_credentials(tls) if tls else None,
            metadata=_metadata(token, addresses, is_readable=tls is None and not token_over_plain_text),
            timeout_s=checked_timeout_s(timeout_s),
            retry=retry,
            batch_size=batch_size,
            max_in_flight=max_in_flight,
        )

    def timeout_s_or(self, timeout_s: float | None) -> float:
        """Returns a call's timeout, or the client's if it has none.

        Raises:
            SettingsError: it is not more than 0.
        """
        return self.timeout_s if timeout_s is None else checked_timeout_s(timeout_s)


class Rotation(Generic[_Channel]):
    """Channels used in turn. Thread-safe."""

    def __init__(self, channels: Sequence[_Channel]) -> None:
        self.all = tuple(channels)
        # `next` of an itertools object is atomic under the GIL.
        self._turns: Iterator[_Channel] = itertools.cycle(self.all)

    def next(self) -> _Channel:
        """Returns the next channel."""
        return next(self._turns)


def checked_timeout_s(timeout_s: float) -> float:
    """Returns the timeout.

    Raises:
        SettingsError: it is not more than 0.
    """
    if not timeout_s > 0:
        raise SettingsError(f"timeout_s must be more than 0 (math.inf: no limit); got {timeout_s}")
    return math.inf if math.isinf(timeout_s) else float(timeout_s)


def _endpoints(addresses: Sequence[str], tls: Tls | None) -> tuple[Endpoint, ...]:
    options = _OPTIONS
    if tls and tls.server_name:
        options = (*options, ("grpc.ssl_target_name_override", tls.server_name))
    each = tuple(_endpoint(address, options) for address in addresses)
    # A channel checks certificates against one name: without a given one, each address needs its own channel. A proxy
    # also connects to only one address.
    is_shared = (not tls or tls.server_name) and not any(one.proxy for one in each)
    scheme = _common_ip_scheme(addresses) if is_shared else None
    if len(addresses) == 1 or scheme is None:
        return each
    # Without the authority, the whole list would be sent as the host name.
    options = (*options, _NO_PROXY, ("grpc.default_authority", addresses[0]))
    return (Endpoint(f"{scheme}:{','.join(addresses)}", ", ".join(addresses), options),)


def _endpoint(address: str, options: tuple[tuple[str, Any], ...]) -> Endpoint:
    if _is_local(address):
        # gRPC would also proxy 127.0.0.1, which is another machine for the proxy.
        return Endpoint(address, address, (*options, _NO_PROXY))
    return Endpoint(address, address, options, next((name for name in _PROXY_VARIABLES if os.environ.get(name)), ""))


def _common_ip_scheme(addresses: Sequence[str]) -> str | None:
    versions = {address.version if (address := _ip(host_of(each))) else None for each in addresses}
    return {(4,): "ipv4", (6,): "ipv6"}.get(tuple(versions))  # type: ignore[arg-type]


def host_of(address: str) -> str:
    """Returns the host in host:port, [host]:port or a URI such as dns:///host:port."""
    authority = address.rpartition("/")[2].removeprefix("dns:").removeprefix("ipv4:").removeprefix("ipv6:")
    host = authority if authority.count(":") > 1 and "]" not in authority else authority.rpartition(":")[0] or authority
    return host.strip("[]")


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _is_local(address: str) -> bool:
    if address.startswith(("unix:", "unix-abstract:")):
        return True
    host = host_of(address)
    ip = _ip(host)
    # Connecting to 0.0.0.0 reaches this machine.
    return host == "localhost" or (ip is not None and (ip.is_loopback or ip.is_unspecified))


def _metadata(token: str | None, addresses: Sequence[str], *, is_readable: bool) -> tuple[tuple[str, str], ...]:
    if token is None:
        return ()
    # The messages must not show the token.
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise SettingsError("token must be printable ASCII without spaces; check that it was read correctly")
    if is_readable and not all(map(_is_local, addresses)):
        raise SettingsError(
            "token would be sent unencrypted to another machine; use TLS with tls=Tls() (--tls), or, if the "
            "network encrypts, allow it with token_over_plain_text=True (--token-over-plain-text)"
        )
    return (("authorization", f"Bearer {token}"),)


def _credentials(tls: Tls) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(_read("ca", tls.ca), _read("key", tls.key), _read("cert", tls.cert))


def _read(field: str, path: str | PathLike[str] | None) -> bytes | None:
    if path is None:
        return None
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise SettingsError(f"tls {field} cannot be read: {path}: {error.strerror}") from error
    if b"-----BEGIN " not in content:
        raise SettingsError(f"tls {field} must be a PEM file; {path} is not")
    return content
