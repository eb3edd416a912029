"""Requests to a registry: HTTPS, tokens, and errors."""

import contextlib
import http.client
import json
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from email.message import Message
from typing import IO, Any, cast

from pixelserve.pull.errors import PullError, SourceFailed, SourceRefused, SourceUnavailable

from .credentials import find_credentials

# A registry that sends nothing for this long is gone; the duration of a whole blob is not limited.
_SILENCE_S = 60
_ANSWER_BYTES = 1 << 20
_LOOPBACK = re.compile(r"(localhost|127(\.[0-9]{1,3}){3}|\[::1\])(:[0-9]+)?")
_DENIED = (401, 403)
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a registry's redirects to its blobs, but never from HTTPS to plain HTTP."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> urllib.request.Request | None:
        if req.type == "https" and not newurl.startswith("https://"):
            return None
        # The token is an unredirected header, so it is sent only to the host it is for.
        return super().redirect_request(req, fp, code, msg, cast(http.client.HTTPMessage, headers), newurl)


class Connection:
    """A registry, and the token for one repository in it.

    Args:
        registry: its host, with its port if it has one.
        shown: the image, for messages.
    """

    def __init__(self, registry: str, shown: str) -> None:
        self.shown = shown
        self._registry = registry
        is_here = _LOOPBACK.fullmatch(registry) is not None
        # Plain HTTP on loopback only, as in docker and podman.
        self.base = f"{'http' if is_here else 'https'}://{registry}"
        proxies = urllib.request.ProxyHandler({} if is_here else None)
        self._opener = urllib.request.build_opener(proxies, _Redirects())
        self._authorization = ""

    @contextlib.contextmanager
    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        data: bytes | Iterable[bytes] | None = None,
    ) -> Iterator[http.client.HTTPResponse]:
        """Sends a request, again if the registry first asks for a token, and yields the response.

        Read its bytes with `read`, so other errors of the block are not blamed on the registry.

        Args:
            method: HTTP's.
            url: absolute, or a path of the registry.
            headers: beside the token.
            data: the body; an iterable can be sent only once, so get a token before.

        Raises:
            SourceRefused: not found, or not permitted.
            SourceUnavailable: no response.
            SourceFailed: any other response.
        """
        full = urllib.parse.urljoin(self.base, url)
        try:
            response = self._send(method, full, headers or {}, data)
        except urllib.error.HTTPError as error:
            with error:
                if error.code != http.HTTPStatus.UNAUTHORIZED or not (data is None or isinstance(data, bytes)):
                    raise self._failure(error) from error
                self._authorization = self._authorize(error.headers.get("WWW-Authenticate", ""))
            response = self._send_again(method, full, headers or {}, data)
        with response:
            yield response

    def _send(
        self, method: str, url: str, headers: Mapping[str, str], data: bytes | Iterable[bytes] | None
    ) -> http.client.HTTPResponse:
        # Only HTTP and HTTPS: `url` is the registry's, or one that it answered with.
        if not url.startswith(("https://", f"{self.base}/")):
            raise SourceFailed(f"{self.shown}: the registry leads to {url}, which is not HTTPS")
        request = urllib.request.Request(url, data, dict(headers), method=method)  # noqa: S310  checked above
        if self._authorization and url.startswith(f"{self.base}/"):
            request.add_unredirected_header("Authorization", self._authorization)
        with self._speaking():
            return cast(http.client.HTTPResponse, self._opener.open(request, timeout=_SILENCE_S))

    def _send_again(
        self, method: str, url: str, headers: Mapping[str, str], data: bytes | Iterable[bytes] | None
    ) -> http.client.HTTPResponse:
        try:
            return self._send(method, url, headers, data)
        except urllib.error.HTTPError as error:
            with error:
                raise self._failure(error) from error

    def _authorize(self, challenge: str) -> str:
        """Returns the header for a challenge: a password, or a fetched token."""
        scheme, _, rest = challenge.partition(" ")
        password = find_credentials(self._registry)
        if scheme.lower() == "basic" and password:
            return f"Basic {password}"
        asked = dict(_CHALLENGE.findall(rest))
        if scheme.lower() != "bearer" or "realm" not in asked:
            raise SourceRefused(
                f"{self.shown}: the registry needs a password, and none is configured; run docker login"
            )
        query = urllib.parse.urlencode({key: asked[key] for key in ("service", "scope") if key in asked})
        self._authorization = ""
        with_password = {"Authorization": f"Basic {password}"} if password else {}
        answer = self._token(f"{asked['realm']}?{query}", with_password)
        token = answer.get("token") or answer.get("access_token")
        if not isinstance(token, str):
            raise SourceFailed(f"{self.shown}: {asked['realm']} answered without a token; try again")
        return f"Bearer {token}"

    def _token(self, url: str, headers: Mapping[str, str]) -> dict[str, Any]:
        with self._send_again("GET", url, headers, None) as response:
            try:
                answer = json.loads(self.read(response, _ANSWER_BYTES))
            except ValueError as error:
                raise SourceFailed(f"{self.shown}: the token's answer is not JSON: {error}; try again") from error
        return answer if isinstance(answer, dict) else {}

    def _failure(self, error: urllib.error.HTTPError) -> PullError:
        text = f"{error.code} {error.reason}{_said(error)}"
        if error.code == http.HTTPStatus.NOT_FOUND:
            return SourceRefused(f"{self.shown}: the registry has no such image or repository ({text})")
        if error.code in _DENIED:
            return SourceRefused(f"{self.shown}: no permission ({text}); run docker login, or use another pull secret")
        return SourceFailed(f"{self.shown}: the registry answered {text}; try again")

    def read(self, response: http.client.HTTPResponse, count: int) -> bytes:
        """Reads up to `count` bytes of a response; none at its end.

        Raises:
            SourceUnavailable: the connection broke or stalled for a minute.
        """
        with self._speaking():
            return response.read(count)

    @contextlib.contextmanager
    def _speaking(self) -> Iterator[None]:
        """Translates errors of the connection to a registry."""
        try:
            yield
        except urllib.error.HTTPError:
            raise
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            text = str(reason) or type(error).__name__
            raise SourceUnavailable(f"{self.shown}: {self._registry} does not answer: {text}; try again") from error


def _said(error: urllib.error.HTTPError) -> str:
    """Returns a registry's error message, in the format of the distribution specification."""
    try:
        first = json.loads(error.read(_ANSWER_BYTES))["errors"][0]
        return f": {first['code']} {first.get('message', '')}".rstrip()
    except (OSError, http.client.HTTPException, ValueError, KeyError, IndexError, TypeError):
        return ""
