"""The server's errors, by who is at fault.

    ServerError
    ├── StartupError          operator: this server cannot start as configured
    │   ├── ConfigurationError    a setting or the configuration file is invalid
    │   ├── CertificateError      a certificate, key or CA file cannot be used
    │   └── MissingLibraryError   a setting needs a library that is not installed
    ├── RepositoryError       operator: a model on disk cannot be served
    │   └── UnknownName           user of a command: there is no such model or version on disk
    └── RequestError          one call fails
        ├── InvalidRequest    client: the request is invalid
        ├── NotFound          client: no such model, version or shared memory
        ├── AlreadyExists     client: the name is taken
        ├── Unauthenticated   client: no token, or an unknown one
        ├── PermissionDenied  client: its token does not allow this
        ├── RateExceeded      client: its token's rate limit is exceeded
        ├── Unavailable       no one: a later try or another server may succeed
        │   └── Unloading     no one: the version was unloaded after the look-up; its replacement may answer
        ├── QueueFull         no one: too many requests are waiting
        ├── TooManyStreams    no one: too many streams are open
        ├── DeadlineExceeded  no one: the client's deadline has passed
        ├── Cancelled         no one: the client has left
        ├── Unimplemented     client: this server does not serve the method or feature
        └── InternalError     the server

The client is also at fault for pixelserve.imaging's ImageError, which concerns one picture of a request and no others.

Messages say what was expected, what was received and what to do, and name the model, version and tensor. api/status.py
maps each class to its gRPC status.
"""

from pathlib import Path


class ServerError(Exception):
    """Base class of all errors that the server raises on purpose."""


class StartupError(ServerError):
    """The server cannot start as configured; the message names the setting and the remedy."""

    exit_code = 1


class ConfigurationError(StartupError):
    """Operator error: a setting or the configuration file is invalid."""

    exit_code = 2


class CertificateError(StartupError):
    """Operator error: a certificate, key or CA file is unusable; the message names the flag and file."""


class MissingLibraryError(StartupError):
    """Operator error: a setting needs a library that is not installed."""

    exit_code = 3


class RepositoryError(ServerError):
    """A model on disk cannot be served; the message names the file and the remedy."""

    exit_code = 1

    def __init__(self, problem: str, *, path: Path | None = None, line: int | None = None, write: str = "") -> None:
        """Combines the facts into one message.

        Args:
            problem: what was expected, what was found, and what to do, without the file.
            path: the file or folder; None: `problem` names it.
            line: the line number, from 1, or None.
            write: the exact replacement text, or empty.
        """
        self.problem, self.path, self.line, self.write = problem, path, line, write
        where = "" if path is None else f"{path}: " if line is None else f"{path}:{line}: "
        text = f"{where}{problem}{f'; write: {write}' if write else ''}"
        # Clients and logs need UTF-8, which a path may not be.
        super().__init__(text.encode(errors="backslashreplace").decode())


class BusyMachineError(ServerError):
    """A command cannot measure because something else uses the machine; nothing was written."""

    exit_code = 5


class UnknownName(RepositoryError):
    """A command names a model or version that is not on disk; the message lists the existing ones."""

    exit_code = 2


def unreadable(path: Path, error: Exception, expected: str = "") -> RepositoryError:
    """Returns the error for an unreadable file or folder, for the system's reason or its content's.

    Args:
        path: the file or folder.
        error: the error raised by reading it.
        expected: what it should contain; part of the message if it could be opened or does not exist.
    """
    if isinstance(error, PermissionError):
        return RepositoryError(f"cannot be read: {error.strerror}; make it readable for the server's user", path=path)
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return RepositoryError(f"cannot be read: {reason}{expected and f'; expected {expected}'}", path=path)


class RequestError(ServerError):
    """A call is answered with an error."""


class InvalidRequest(RequestError):
    """The request is invalid; retries will fail too."""


class NotFound(RequestError):
    """No such model, version or shared memory, or no version of the model is ready."""


class AlreadyExists(RequestError):
    """The name of a shared memory region is taken."""


class Unauthenticated(RequestError):
    """The request has no token, or an unknown one; the message never shows it."""


class PermissionDenied(RequestError):
    """The request's token does not allow it; the message names the token and the missing permission."""


class RateExceeded(RequestError):
    """The rate limit of the request's token is exceeded."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        """`retry_after_s`: seconds until the next request is allowed."""
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Unavailable(RequestError):
    """A named version that is not ready, or a server that is draining."""


class Unloading(Unavailable):
    """The version was unloaded between look-up and queue; another look-up finds its replacement."""


class QueueFull(RequestError):
    """The model's queue is full."""


class Overloaded(QueueFull):
    """The model has no time for a request: it would be late, or the queueing delay has been too long."""


class TooManyStreams(RequestError):
    """The maximum number of streams is open; their requests are still answered."""


class DeadlineExceeded(RequestError):
    """The caller's deadline, or the queue's timeout, passed before the request ran."""


class Cancelled(RequestError):
    """The caller left before the request ran."""


class Unimplemented(RequestError):
    """A method or feature of the protocol that this server does not serve."""


class InternalError(RequestError):
    """An unexpected error; the details are in the log under the request id, never in the answer."""
