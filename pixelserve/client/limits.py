"""Settings for a client's retries and TLS."""

from dataclasses import dataclass
from os import PathLike

from .errors import SettingsError


@dataclass(frozen=True)
class Retry:
    """How to retry calls after temporary failures.

    Only two failures are retried: UNAVAILABLE, and RESOURCE_EXHAUSTED if the server says when to retry
    (`grpc-retry-pushback-ms`). That is safe, because classification is idempotent. Other calls would fail again, or
    have used up their time. No attempt starts after the deadline.

    A server's pushback is the minimum wait; a negative one means never. With several addresses, the next one is tried
    immediately, with a wait only after all of them. gRPC's own retries are off: they would multiply these.

    Example:
        >>> client = Client("127.0.0.1:8001", retry=Retry(attempts=2, initial_backoff_s=0.05))
        >>> never_again = Client("127.0.0.1:8001", retry=Retry(attempts=1))

    Raises:
        SettingsError: a field is out of its range.
    """

    attempts: int = 5
    """Maximum attempts per call, including the first; at least 1."""
    initial_backoff_s: float = 0.1
    """Seconds before the second attempt."""
    max_backoff_s: float = 2.0
    """Maximum seconds between two attempts, unless the server asks for more."""
    multiplier: float = 2.0
    """Factor between successive waits, at least 1."""
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
        """Returns the wait in seconds after this many consecutive failures; `chance` is a random number from 0 to 1."""
        # Not a single power, which overflows with many attempts.
        plain_s = min(self.initial_backoff_s, self.max_backoff_s)
        for _ in range(failures - 1):
            plain_s = min(plain_s * self.multiplier, self.max_backoff_s)
        return plain_s * (1 + self.jitter * (2 * chance - 1))


@dataclass(frozen=True)
class Tls:
    """TLS settings of a client.

    Example:
        >>> from pathlib import Path
        >>> tls = Tls(ca=Path("ca.pem"), server_name="pixelserve.example")
        >>> client = Client("127.0.0.1:8001", tls=tls)

    Raises:
        SettingsError: the certificate or its key is missing.
    """

    ca: str | PathLike[str] | None = None
    """PEM file with the trusted certificates; None: gRPC's defaults."""
    cert: str | PathLike[str] | None = None
    """PEM file with the client's certificate chain, if the server requires one."""
    key: str | PathLike[str] | None = None
    """PEM file with the certificate's private key."""
    server_name: str | None = None
    """Expected name in the server's certificate; None: the host in the target."""

    def __post_init__(self) -> None:
        if (self.cert is None) != (self.key is None):
            raise SettingsError("tls needs both cert and key, or neither")


def _check(holds: bool, field: str, expected: str, received: object) -> None:
    if not holds:
        raise SettingsError(f"retry {field} must be {expected}; got {received}")
