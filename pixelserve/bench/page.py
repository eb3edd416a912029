"""Reads a server's process usage from its metrics page."""

import http.client
import re
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass

from .errors import BenchError

_TIMEOUT_S = 5.0
# The page of a hundred models is below 1 MB.
_MOST_BYTES = 16 << 20


@dataclass(frozen=True)
class Usage:
    """A process's usage at a moment."""

    cpu_s: float
    """CPU time since its start, in seconds."""
    memory_bytes: int
    """Resident memory (RSS) in bytes."""


class MetricsPage:
    """The metrics page of the server with a model version."""

    def __init__(self, url: str, model: str, version: str, headers: Sequence[tuple[str, str]] = ()) -> None:
        self._url = url
        self._headers = dict(headers)
        self._labels = f'model="{model}",version="{version}"'

    def usage(self) -> Usage:
        """Reads the page.

        Raises:
            BenchError: it cannot be read, or belongs to a server without this version.
        """
        if not self._url.startswith(("http://", "https://")):
            raise BenchError(f"--metrics-url {self._url}: expected a URL such as http://127.0.0.1:8002/metrics")
        try:
            request = urllib.request.Request(self._url, headers=self._headers)  # noqa: S310  # checked above
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310
                text = answer.read(_MOST_BYTES).decode(errors="replace")
        except (OSError, ValueError, http.client.HTTPException, urllib.error.URLError) as error:
            raise BenchError(f"the metrics page {self._url} cannot be read: {error}") from error
        if self._labels not in text:
            raise BenchError(
                f"the metrics page {self._url} has no metrics of the measured model; name the server's page"
            )
        return Usage(_value(text, "process_cpu_seconds_total"), int(_value(text, "process_resident_memory_bytes")))


def _value(text: str, name: str) -> float:
    found = re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
    if found is None:
        raise BenchError(f"the metrics page has no {name}")
    return float(found[1])
