"""Bounds the blocks before a GIF's first frame, which Pillow reads one by one in Python."""

from .errors import ImageError

SIGNATURES = (b"GIF87a", b"GIF89a")

# A colour profile or an XMP packet takes a few thousand.
_MAX_BLOCKS = 100_000
_EXTENSION = 0x21


def check(data: bytes) -> None:
    """Checks a GIF file before it is opened; damaged files are checked as far as possible.

    Raises:
        ImageError: there are more blocks before its first frame than any program writes.
    """
    blocks = 0
    try:
        at = 13 + (3 << (data[10] & 7) + 1 if data[10] & 0x80 else 0)
        while data[at] == _EXTENSION:
            at += 2
            while True:
                size = data[at]
                at += size + 1
                blocks += 1
                if blocks > _MAX_BLOCKS:
                    raise ImageError(
                        f"the picture is a GIF of more than {_MAX_BLOCKS:,} blocks of metadata; save it again"
                    )
                if not size:
                    break
    except IndexError:
        return
