"""Errors of pulling a model or writing its image, by cause.

    PullError                     exit code 1
    ├── UsageError                2: caller error: invalid URL, name or version
    │   └── ConflictError         2: caller error: a version exists with other content
    ├── MissingPackageError       3: installation error: the package for this kind of URL is missing
    ├── SourceRefused             4: source error: no such model, or no permission to read it
    ├── SourceUnavailable         5: the source does not respond, or too slowly
    ├── SourceFailed              6: source or network error: the transfer ended early
    ├── UnsafeSourceError         1: source error: a name leads out of the model's folder, or a limit is exceeded
    ├── DamagedError              1: model error: it does not match its card, or no server could load it
    └── WriteError                1: disk error: no space left, or no permission

`exit_code` is the exit code of the `pixelserve` command. After each of these errors the repository is unchanged.
"""

from typing import ClassVar


class PullError(Exception):
    """Base of all errors of pulling a model."""

    exit_code: ClassVar[int] = 1


class UsageError(PullError):
    """Caller error; the message names the argument."""

    exit_code = 2


class ConflictError(UsageError):
    """A version exists with other content; it is overwritten only on request."""


class MissingPackageError(PullError):
    """The package that reads this kind of URL is not installed; the message says how to install it."""

    exit_code = 3


class SourceRefused(PullError):
    """The source has no such model, or no permission to read it."""

    exit_code = 4


class SourceUnavailable(PullError):
    """The source does not respond, or too slowly; retry later."""

    exit_code = 5


class SourceFailed(PullError):
    """The source or the network failed, or less data came than announced."""

    exit_code = 6


class UnsafeSourceError(PullError):
    """The source lists a name that leads out of the model's folder, or exceeds a limit."""


class DamagedError(PullError):
    """The model does not match its card, or no server could load it."""


class WriteError(PullError):
    """It cannot be written: no space left, no permission, or a file in the way."""
