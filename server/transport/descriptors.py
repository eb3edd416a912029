"""How many connections the process can hold open: each takes a file descriptor, and so does much else."""

import resource

_OTHERS = 256
"""Descriptors for everything else: models, event loops, pipes, what watches files, the metrics port's connections."""
_PORTS = 2
"""gRPC's and HTTP's, each of which takes its own connections."""


def connections_that_fit(wanted: int) -> int:
    """Returns how many connections a port may have, `wanted` if possible.

    Raises the process's limit on open files as far as that needs and the system allows. A server that could not open
    a file any more would take no connection, and h2corn ends all that it has when taking one fails.
    """
    needed = _PORTS * wanted + _OTHERS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return wanted
    return max(1, (soft - _OTHERS) // _PORTS)
