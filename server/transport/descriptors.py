"""Limits connections by file descriptors, which other parts need too."""

import resource

_OTHERS = 256
"""Descriptors for everything else: models, event loops, pipes, file events, the metrics port's connections."""
_PORTS = 2
"""gRPC and HTTP, each with its own connections."""


def connections_that_fit(wanted: int) -> int:
    """Returns how many connections a port may have, `wanted` if possible.

    Raises the process's limit on open files as far as needed and allowed. Without free descriptors a server cannot
    accept connections, and h2corn ends all of its connections when an accept fails.
    """
    needed = _PORTS * wanted + _OTHERS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return wanted
    return max(1, (soft - _OTHERS) // _PORTS)
