"""Checks the listening address: other machines may connect only over TLS and with tokens, or with --insecure."""

import ipaddress
import socket
from collections.abc import Iterable

from ..errors import ConfigurationError
from ..settings import Settings


def check_exposure(settings: Settings) -> str | None:
    """Returns a warning about what is open to the network, or None.

    Raises:
        ConfigurationError: other machines could connect without TLS or authentication, and --insecure is off; or the
            host does not exist.
    """
    reachable = _reachable_address(settings.host)
    missing = list(_missing(settings))
    if reachable is None or not missing:
        return None
    where = settings.host if settings.host == reachable else f"{settings.host or 'an empty --host'} ({reachable})"
    if settings.insecure:
        return f"other machines can reach {where} without {' and without '.join(missing)}"
    remedies = " and ".join(_REMEDIES[each] for each in missing)
    raise ConfigurationError(
        f"--host {where} can be reached by other machines, and there is no {' and no '.join(missing)}; add {remedies} "
        f"(docs/security.md), listen on 127.0.0.1, or add --insecure if the network is trusted"
    )


_TLS, _TOKENS = "TLS", "tokens"
_REMEDIES = {_TLS: "--tls-cert FILE --tls-key FILE", _TOKENS: "--tokens FILE"}


def _missing(settings: Settings) -> Iterable[str]:
    if settings.tls_cert is None:
        yield _TLS
    # A client certificate authenticates, like a token.
    if settings.tokens is None and settings.tls_client_ca is None:
        yield _TOKENS


def _reachable_address(host: str) -> str | None:
    """Returns the first address of a host that is not loopback, or None.

    Resolved by the system, as for listening: 127.1, 0x7f000001 and localhost are loopback too, and 0 is every network.
    """
    try:
        # An empty host means every network.
        found = socket.getaddrinfo(host or None, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ConfigurationError(f"--host {host} is not an address of this machine: {reason}") from error
    addresses = [str(each[4][0]) for each in found]
    return next((address for address in addresses if not _is_loopback(address)), None)


def _is_loopback(address: str) -> bool:
    # A link-local address includes its interface: fe80::1%eth0.
    ip = ipaddress.ip_address(address.partition("%")[0])
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return (mapped or ip).is_loopback
