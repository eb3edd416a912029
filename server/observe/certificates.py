"""Reports changes of the server's certificates to metrics and the log."""

from collections.abc import Iterable, Mapping
from datetime import datetime

from .logs import Log
from .metrics import Metrics


class CertificateEvents:
    """Notified of every accepted or refused set of certificates."""

    def __init__(self, metrics: Metrics, log: Log) -> None:
        self._metrics = metrics
        self._log = log

    def on_taken(
        self, subject: str, expires: Mapping[str, datetime], warnings: Iterable[str], *, renewed: bool
    ) -> None:
        """New connections use a set from now on.

        Args:
            subject: the subject of the server's certificate.
            expires: when the first certificate of each file expires, by what the file is.
            warnings: reasons why clients will refuse it or be refused.
            renewed: whether it replaces another set.
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
        """Changed files cannot be used; the previous set stays."""
        self._metrics.certificates_refused()
        self._log.error("certificate not renewed", reason=reason)
