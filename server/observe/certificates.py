"""Tells metrics and the log what becomes of the server's certificate."""

from collections.abc import Iterable, Mapping
from datetime import datetime

from .logs import Log
from .metrics import Metrics


class CertificateEvents:
    """Is told of every set of certificates that is taken, or is not."""

    def __init__(self, metrics: Metrics, log: Log) -> None:
        """Stores what it is handed."""
        self._metrics = metrics
        self._log = log

    def on_taken(
        self, subject: str, expires: Mapping[str, datetime], warnings: Iterable[str], *, renewed: bool
    ) -> None:
        """Tells of a set that connections get from now on.

        Args:
            subject: whom the server's certificate is for.
            expires: when the first certificate of each file expires, by what the file is.
            warnings: what will make clients refuse it, or be refused.
            renewed: whether it takes another's place.
        """
        self._metrics.certificates_taken({name: end.timestamp() for name, end in expires.items()}, renewed=renewed)
        self._log.info(
            "certificate renewed" if renewed else "certificate loaded",
            subject=subject,
            **{f"{name}_expires": end.isoformat() for name, end in expires.items()},
        )
        for warning in warnings:
            self._log.warning("certificate doubtful", reason=warning)

    def on_refused(self, reason: str) -> None:
        """Tells of files that changed to something that cannot be used; what was taken before stays."""
        self._metrics.certificates_refused()
        self._log.error("certificate not renewed", reason=reason)
