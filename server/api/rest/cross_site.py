"""Refuses requests that a browser sends for web pages of other sites.

Such a page cannot read our answers, which have no CORS headers, but the browser still sends its requests. It names the
page's site in Origin and Sec-Fetch-Site, which no page can forge. To the browser, a page whose name resolves to this
machine (DNS rebinding) has our origin, but its name is in Host.
"""

import ipaddress
import json
from collections.abc import Mapping

from .status import HttpError

# Probes use an address or a Service's name, and the answer reveals nothing.
_OPEN_PATHS = frozenset({"/v2/health/live", "/v2/health/ready"})
# Content types that a form or script may send without a preflight (OPTIONS) request, which we would refuse.
_FORM_TYPES = frozenset({"text/plain", "application/x-www-form-urlencoded", "multipart/form-data"})
_MAX_KNOWN = 256
_MAX_SHOWN = 100


class AllowedHosts:
    """The names and addresses of a server; ports are ignored."""

    def __init__(self, listens_on: str, allowed: str | None) -> None:
        """Reads the setting.

        Always accepts loopback's names and addresses, and the address that the server listens on. No other name
        normally resolves to loopback, so a server on loopback accepts only names in the setting. On other addresses,
        any name is accepted unless the setting lists names.

        Args:
            listens_on: the host that the server listens on.
            allowed: names and addresses separated by commas, `*.example.com` for all subdomains, `*` for any;
                None: the default.
        """
        listed = {_hostname(each.strip()) for each in (allowed or "").split(",") if each.strip()}
        own = _hostname(listens_on)
        self._any = "*" in listed or (allowed is None and not _is_loopback(own))
        self._listed = _Names(listed)
        self._own = _address(own) or own
        self._known: dict[bytes, bool] = {}

    def accepts(self, host: bytes) -> bool:
        """Returns whether a Host header names this server."""
        if self._any:
            return True
        is_known = self._known.get(host)
        if is_known is None:
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            name = _hostname(host.decode("latin-1"))
            is_own = _is_loopback(name) or (_address(name) or name) == self._own
            is_known = self._known[host] = is_own or self.lists(name)
        return is_known

    def lists(self, name: str) -> bool:
        """Returns whether the setting lists a name or address, except by `*`."""
        return name in self._listed


class _Names:
    """Names, addresses and `*.` wildcards."""

    def __init__(self, names: set[str]) -> None:
        self._exact = {_address(name) or name for name in names}
        self._below = tuple(name[1:] for name in names if name.startswith("*."))

    def __contains__(self, name: str) -> bool:
        return (_address(name) or name) in self._exact or name.endswith(self._below)


def refusal(method: str, path: str, headers: Mapping[bytes, bytes], hosts: AllowedHosts) -> HttpError | None:
    """Returns the error of a request from another site, or None.

    Args:
        method: the HTTP method.
        path: the path.
        headers: the headers, by lower-case name.
        hosts: the server's names.
    """
    if path in _OPEN_PATHS:
        return None
    host = headers.get(b"host", b"")
    # HTTP/1.1 and HTTP/2 require a host, so browsers always send it.
    if host and not hosts.accepts(host):
        return HttpError(
            421,
            f"Host is {_shown(host)}, which is not a name of this server; expected localhost, a loopback address or "
            f"the address that it listens on. If this is its name, add it to --allowed-hosts",
        )
    if b"origin" not in headers and b"sec-fetch-site" not in headers:
        return None
    return _foreign_page(method, headers, host, hosts)


def _foreign_page(method: str, headers: Mapping[bytes, bytes], host: bytes, hosts: AllowedHosts) -> HttpError | None:
    site, origin = headers.get(b"sec-fetch-site", b"").lower(), headers.get(b"origin", b"")
    if site in (b"same-origin", b"none"):
        return None
    if not origin:
        # Only the user who follows a link sees the answer.
        is_link = method == "GET" and headers.get(b"sec-fetch-mode", b"").lower() == b"navigate"
        return None if is_link else HttpError(403, _foreign("another site"))
    authority = origin.partition(b"://")[2]
    if authority and (authority.lower() == host.lower() or hosts.lists(_hostname(authority.decode("latin-1")))):
        return None
    return HttpError(403, _foreign(_shown(origin)))


def _foreign(origin: str) -> str:
    return (
        f"the request comes from a web page of {origin} (Origin, Sec-Fetch-Site); pages of this server and of the "
        f"hosts in --allowed-hosts may send requests"
    )


def refuse_forms(headers: Mapping[str, str]) -> None:
    """Refuses bodies that web pages can send without a preflight request.

    Empty bodies are harmless and allowed, because Python's urllib labels them as forms.

    Raises:
        HttpError: the content type is a form's, or plain text.
    """
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in _FORM_TYPES and headers.get("content-length") != "0":
        raise HttpError(
            415,
            f"Content-Type is {kind}, which web pages of other sites can send; expected application/json (curl: "
            f"-H 'Content-Type: application/json')",
        )


def _hostname(authority: str) -> str:
    """Returns the name or address of a `host:port`, in lower case, without IPv6's brackets or a trailing dot."""
    if authority.startswith("["):
        name = authority[1:].partition("]")[0]
    else:
        # More than one colon is an IPv6 address without brackets.
        name = authority if authority.count(":") > 1 else authority.partition(":")[0]
    return name.removesuffix(".").lower()


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def _is_loopback(name: str) -> bool:
    address = _address(name)
    if address is None:
        # Browsers resolve these to loopback, whatever DNS says (RFC 6761, 6.3).
        return name == "localhost" or name.endswith(".localhost")
    return address.is_loopback


def _shown(value: bytes) -> str:
    return json.dumps(value[:_MAX_SHOWN].decode("latin-1"))
