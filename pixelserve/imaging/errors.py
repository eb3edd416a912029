"""Errors of pictures."""


class ImageError(Exception):
    """Caller error: the picture cannot be read or is too large; the message says what to send instead."""
