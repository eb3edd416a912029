"""Wraps a server's application, to ask HTTP/1.1 clients to close their connections."""

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .listener import App

_CLOSE = (b"connection", b"close")


class Entrance:
    """One server's application. Belongs to the loop's thread, except `is_closing`, which any thread may set."""

    def __init__(self, app: "App") -> None:
        self._app = app
        self.is_closing = False
        """Whether HTTP/1.1 answers close their connections: HTTP/1.1 has nothing like HTTP/2's GOAWAY, and a connection
        that is closed while it is idle may carry the next request already."""

    def __call__(self, scope: Any, receive: Any, send: Any) -> Coroutine[Any, Any, None]:
        """Returns the coroutine that handles a request."""
        if self.is_closing and scope.get("http_version") == "1.1":
            return self._app(scope, receive, _closing(send))
        return self._app(scope, receive, send)


def _closing(send: Any) -> Any:
    def send_closing(event: Any) -> Any:
        if event["type"] == "http.response.start":
            event = {**event, "headers": [*event.get("headers", ()), _CLOSE]}
        return send(event)

    return send_closing
