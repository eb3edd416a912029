"""The memory that this process holds, and what of it goes back to the system."""

import ctypes
import gc
import os
from pathlib import Path

_STATM = Path("/proc/self/statm")


def resident_bytes() -> int:
    """Returns the physical memory that this process holds; 0 on systems without /proc."""
    try:
        pages = int(_STATM.read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def trim() -> None:
    """Gives free memory back to the system, where the C library (glibc) offers that.

    glibc keeps freed blocks of up to 32 MiB for itself: after MobileNetV2 was run with 8 pictures, 21 MiB.
    """
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)


def freeze() -> None:
    """Hides what lives as long as the server from the garbage collector.

    A full collection looks at every object that may ever become garbage: with all modules and models among them it took
    30 ms, in which no call was answered.
    """
    gc.collect()
    gc.freeze()
