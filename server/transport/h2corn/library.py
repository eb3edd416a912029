"""Imports h2corn with an allocator that commits memory as it needs it.

Its allocator, mimalloc, otherwise asks for huge pages where the kernel gives them on request: 4 MiB resident, of which
an idle server uses half a MiB.
"""

import os

# Read when the library is loaded; the operator's own value stands.
os.environ.setdefault("MIMALLOC_ARENA_EAGER_COMMIT", "0")

import h2corn

__all__ = ["h2corn"]
