"""Everything that can go wrong, by whose fault it is.

    ServerError
    ├── StartupError          the operator's: this server cannot start as configured
    │   ├── ConfigurationError    a setting, or the configuration file, is wrong in itself
    │   ├── CertificateError      a certificate, key or CA file cannot be used
    │   └── MissingLibraryError   a setting needs a library that is not installed
    ├── RepositoryError       the operator's: a model on disk cannot be served
    │   └── UnknownName           the caller of a command's: it names a model or version that is not on disk
    └── RequestError          one call's
        ├── InvalidRequest    the sender's: the request itself is wrong
        ├── NotFound          the sender's: no such model, version or shared memory
        ├── AlreadyExists     the sender's: the name is taken
        ├── Unauthenticated   the sender's: no token, or not one of this server's
        ├── PermissionDenied  the sender's: its token does not allow this
        ├── RateExceeded      the sender's: its token is used more often than it may be
        ├── Unavailable       nobody's: not now, another time or another server may answer
        │   └── Unloading     nobody's: the version left after it was looked up; what took its place may answer
        ├── QueueFull         nobody's: too many requests are waiting
        ├── TooManyStreams    nobody's: too many streams are open
        ├── DeadlineExceeded  nobody's: the time that the sender allowed has passed
        ├── Cancelled         nobody's: the sender has gone
        ├── Unimplemented     the sender's: a method or a feature that this server does not serve
        └── InternalError     ours

Beside these, pixelserve.imaging's ImageError is the sender's: one picture of a request, which costs the others nothing.

A message says what was expected, what came, and what to do, and names the model, the tensor and the version. What each
class becomes on the wire is one table, in api/status.py.
"""

from pathlib import Path


class ServerError(Exception):
    """Base of all errors that the server raises on purpose."""


class StartupError(ServerError):
    """The server cannot start as configured; the message names the setting and the remedy."""

    exit_code = 1


class ConfigurationError(StartupError):
    """The operator's fault: a setting, or the configuration file, is wrong in itself."""

    exit_code = 2


class CertificateError(StartupError):
    """The operator's fault: a certificate, its key or a CA file cannot be used; the message names flag and file."""


class MissingLibraryError(StartupError):
    """The operator's fault: a setting needs a library that is not installed."""

    exit_code = 3


class RepositoryError(ServerError):
    """A model on disk cannot be served; the message names the file and the remedy."""

    exit_code = 1

    def __init__(self, problem: str, *, path: Path | None = None, line: int | None = None, write: str = "") -> None:
        """Stores the facts, and makes them one sentence.

        Args:
            problem: what was expected, what came, and what to do, without the file.
            path: the file or folder that it is about; None: `problem` names it.
            line: the line in it, from 1; None: it is about no line.
            write: the exact text to write there instead; empty: there is none to propose.
        """
        self.problem, self.path, self.line, self.write = problem, path, line, write
        where = "" if path is None else f"{path}: " if line is None else f"{path}:{line}: "
        text = f"{where}{problem}{f'; write: {write}' if write else ''}"
        # A path need not be UTF-8, and clients and logs are told of this.
        super().__init__(text.encode(errors="backslashreplace").decode())


class UnknownName(RepositoryError):
    """A command names a model or version that is not on disk; the message says which there are."""

    exit_code = 2


def unreadable(path: Path, error: Exception, expected: str = "") -> RepositoryError:
    """Returns the error for a file or folder that could not be read, for the system's reason or that of its content.

    Args:
        path: the file or folder.
        error: what came of reading it.
        expected: what should be in it; said where it could be opened, or does not exist.
    """
    if isinstance(error, PermissionError):
        return RepositoryError(f"cannot be read: {error.strerror}; make it readable for the server's user", path=path)
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return RepositoryError(f"cannot be read: {reason}{expected and f'; expected {expected}'}", path=path)


class RequestError(ServerError):
    """A call that gets an error for an answer."""


class InvalidRequest(RequestError):
    """The request is wrong and will be wrong again."""


class NotFound(RequestError):
    """No such model, or no such version, or no version of it is ready; or no such shared memory."""


class AlreadyExists(RequestError):
    """The name of a shared memory region is taken."""


class Unauthenticated(RequestError):
    """The request has no token, or not one of this server's; the message never shows what it had."""


class PermissionDenied(RequestError):
    """The request's token does not allow it; the message names the token and what is missing."""


class RateExceeded(RequestError):
    """The request's token is used more often than it may be."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        """Stores the message, and after how many seconds the next request is allowed."""
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Unavailable(RequestError):
    """A named version that is not ready, or a server that is draining."""


class Unloading(Unavailable):
    """The version was unloaded between its look-up and the queue; another look-up finds what serves in its place."""


class QueueFull(RequestError):
    """The model's queue holds as many requests as it may."""


class Overloaded(QueueFull):
    """The model has no time for a request: it would be late, or the queue has stood for too long."""


class TooManyStreams(RequestError):
    """As many streams are open as may; requests on those that are open are answered."""


class DeadlineExceeded(RequestError):
    """The caller's deadline, or the queue's timeout, passed before the request ran."""


class Cancelled(RequestError):
    """The caller left before the request ran."""


class Unimplemented(RequestError):
    """A method or feature of the protocol that this server does not serve."""


class InternalError(RequestError):
    """Something that should not happen; the details are in the log under the request id, never in the answer."""
