"""Imports structlog without rich, which draws tracebacks that the server does not write; it costs 10 MB and 60 ms."""

import sys

_IS_IMPORTED = "rich" in sys.modules
if not _IS_IMPORTED:
    # What Python itself writes there for a module that must not be found.
    sys.modules["rich"] = None  # type: ignore[assignment]  # typeshed does not know this
try:
    import structlog
finally:
    if not _IS_IMPORTED:
        del sys.modules["rich"]

__all__ = ["structlog"]
