"""What a client allows itself: how often it tries, and whom it trusts."""

from dataclasses import dataclass
from os import PathLike

from .errors import SettingsError


@dataclass(frozen=True)
class Retry:
    """How a call that failed for nobody's fault is tried again.

    Only two failures are tried again: UNAVAILABLE, and RESOURCE_EXHAUSTED where the server says when to come back
    (`grpc-retry-pushback-ms`). That is safe: classifying a picture changes nothing on the server, so doing it twice is
    the same as once. Everything else would fail again, or has used up its time. No attempt is made past the deadline.

    A server's pushback is the least that is waited, and a negative one means never. With several addresses the next
    one is tried at once, and only after all of them there is a wait. gRPC's own retries are switched off: they would
    multiply these.

    Example:
        >>> client = Client("127.0.0.1:8001", retry=Retry(attempts=2, initial_backoff_s=0.05))
        >>> never_again = Client("127.0.0.1:8001", retry=Retry(attempts=1))

    Raises:
        SettingsError: a field is out of its range.
    """

    attempts: int = 5
    """Most attempts of one call, the first included, at least 1."""
    initial_backoff_s: float = 0.1
    """Seconds before the second attempt."""
    max_backoff_s: float = 2.0
    """Most seconds between two attempts, unless the server asks for more."""
    multiplier: float = 2.0
    """By how much each wait is longer than the one before, at least 1."""
    jitter: float = 0.2
    """By which part of itself a wait is made longer or shorter at random, 0 to 1: clients that failed together do not
    come back together."""

    def __post_init__(self) -> None:
        _check(self.attempts >= 1, "attempts", "at least 1", self.attempts)
        _check(self.initial_backoff_s >= 0, "initial_backoff_s", "at least 0", self.initial_backoff_s)
        _check(self.max_backoff_s >= 0, "max_backoff_s", "at least 0", self.max_backoff_s)
        _check(self.multiplier >= 1, "multiplier", "at least 1", self.multiplier)
        _check(0 <= self.jitter <= 1, "jitter", "from 0 to 1", self.jitter)

    def backoff_s(self, failures: int, chance: float) -> float:
        """Returns the seconds to wait after so many failures in a row; `chance` is a random number from 0 to 1."""
        # No single power, which overflows where many attempts are allowed.
        plain_s = min(self.initial_backoff_s, self.max_backoff_s)
        for _ in range(failures - 1):
            plain_s = min(plain_s * self.multiplier, self.max_backoff_s)
        return plain_s * (1 + self.jitter * (2 * chance - 1))


@dataclass(frozen=True)
class Tls:
    """Encrypts the connection, and says which servers to trust.

    Example:
        >>> from pathlib import Path
        >>> tls = Tls(ca=Path("ca.pem"), server_name="pixelserve.example")
        >>> client = Client("127.0.0.1:8001", tls=tls)

    Raises:
        SettingsError: there is a certificate without its key, or a key without its certificate.
    """

    ca: str | PathLike[str] | None = None
    """PEM file with the certificates to trust; None: those that gRPC trusts."""
    cert: str | PathLike[str] | None = None
    """PEM file with the client's own certificate chain, where the server asks for one."""
    key: str | PathLike[str] | None = None
    """PEM file with the certificate's private key."""
    server_name: str | None = None
    """Name that the server's certificate must bear; None: the host in the target."""

    def __post_init__(self) -> None:
        if (self.cert is None) != (self.key is None):
            raise SettingsError("tls needs both cert and key, or neither")


def _check(holds: bool, field: str, expected: str, received: object) -> None:
    if not holds:
        raise SettingsError(f"retry {field} must be {expected}, and is {received}")
