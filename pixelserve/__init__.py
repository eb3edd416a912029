"""PixelServe: small image classifiers, from a public data set to a production endpoint.

The public package: the client (`pixelserve.Client`, `pixelserve.AsyncClient`), generated stubs (`pixelserve.oip`,
`pixelserve.v1`), the evidence formats shared by training and server (`pixelserve.card`, `pixelserve.golden`) and the
`pixelserve` command. Each is loaded on first use.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .client import AsyncClient, Client

__all__ = ["AsyncClient", "Client", "__version__"]
__version__ = "0.2.0"


def __getattr__(name: str) -> Any:
    """Loads the clients on first use (PEP 562)."""
    if name in ("AsyncClient", "Client"):
        from . import client

        return getattr(client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
