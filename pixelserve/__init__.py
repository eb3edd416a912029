"""PixelServe: small image classifiers, from a public data set to a production endpoint.

This package is what others import and run: the client (`pixelserve.Client`, `pixelserve.AsyncClient`), generated stubs
(`pixelserve.oip`, `pixelserve.v1`), the evidence format that training and server share (`pixelserve.card`) and the
`pixelserve` command. Importing it loads none of them before it is used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .client import AsyncClient, Client

__all__ = ["AsyncClient", "Client", "__version__"]
__version__ = "0.2.0"


def __getattr__(name: str) -> Any:
    """Loads the clients when they are first asked for (PEP 562)."""
    if name in ("AsyncClient", "Client"):
        from . import client

        return getattr(client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
