"""What can be wrong with a picture."""


class ImageError(Exception):
    """The sender's fault: a picture that cannot be read or is too large; the message says what to send instead."""
