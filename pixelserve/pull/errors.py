"""What can keep a model from being pulled, or written as an image, by whose fault it is.

    PullError                     exit code 1
    ├── UsageError                2: the caller's: the URL, the name or a version cannot be
    │   └── ConflictError         2: the caller's: a version is there already, with other content
    ├── MissingPackageError       3: the installation's: the package for this kind of URL is missing
    ├── SourceRefused             4: the source's: it has no such model, or does not let us read it
    ├── SourceUnavailable         5: nobody's: no source there, or it is too slow
    ├── SourceFailed              6: the source's, or that of something between: it ended in the middle
    ├── UnsafeSourceError         1: the source's: a name that leads out of the model's folder, or more than is allowed
    ├── DamagedError              1: the model's: it is not what its card says, or no server could load it
    └── WriteError                1: the disk's: no space left, or no permission

`exit_code` is what the `pixelserve` command exits with. After each of these the repository is as it was before.
"""

from typing import ClassVar


class PullError(Exception):
    """Base of all that can keep a model from being pulled."""

    exit_code: ClassVar[int] = 1


class UsageError(PullError):
    """The caller asked for something that cannot be; the message names the argument."""

    exit_code = 2


class ConflictError(UsageError):
    """A version is there already with other content, and nothing is overwritten unasked."""


class MissingPackageError(PullError):
    """The package that reads this kind of URL is not installed; the message says how to install it."""

    exit_code = 3


class SourceRefused(PullError):
    """The source has no such model, or does not let us read it."""

    exit_code = 4


class SourceUnavailable(PullError):
    """Nobody answers at the source, or too slowly; another time may do."""

    exit_code = 5


class SourceFailed(PullError):
    """The source, or something between, failed, or sent less than it had announced."""

    exit_code = 6


class UnsafeSourceError(PullError):
    """The source lists a name that leads out of the model's folder, or more than is allowed."""


class DamagedError(PullError):
    """The model is not what its card says, or no server could load it."""


class WriteError(PullError):
    """The disk does not take it: no space left, no permission, or a file in the way."""
