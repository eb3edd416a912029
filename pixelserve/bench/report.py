"""The report of a measurement, for people and programs."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .record import OK, Record

PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9)
_BARS = 16
_BAR_WIDTH = 40
# A process of Python threads reaches its limit a little below one core.
_BUSY_CORES = 0.9


@dataclass(frozen=True)
class Report:
    """A measurement's result."""

    model: str
    """The model's name."""
    version: str
    """Its version."""
    method: str
    """gRPC method as /service/method."""
    load: str
    """The load in words, such as `32 in flight`."""
    images: int
    """Images in each request."""
    record: Record
    """The record of the requests."""
    generator_cores: float
    """Cores that the generator used on average; near 1, it was itself the limit."""

    @property
    def took_s(self) -> float:
        """Seconds from the first counted request to the last answer."""
        return max(self.record.last_s - self.record.from_s, 1e-9)

    @property
    def requests_per_s(self) -> float:
        """Requests answered with OK per second."""
        return self.record.by_status[OK] / self.took_s

    def as_json(self) -> dict[str, Any]:
        """Returns everything, latencies in milliseconds."""
        answered = self.record.answered
        latency = {f"p{percent:g}": _ms(answered.percentile_s(percent)) for percent in PERCENTILES}
        return {
            "model": self.model,
            "version": self.version,
            "method": self.method,
            "load": self.load,
            "images_per_request": self.images,
            "duration_s": round(self.took_s, 6),
            "requests": self.record.total,
            "answered": answered.count,
            "errors": self.record.errors,
            "requests_per_s": round(self.requests_per_s, 3),
            "images_per_s": round(self.requests_per_s * self.images, 3),
            "latency_ms": {"mean": _ms(answered.mean_s), **latency, "max": _ms(answered.max_s)},
            "histogram_ms": [[_ms(end_s), count] for end_s, count in answered.histogram(_BARS)],
            "started_late_ms": {
                "p99": _ms(self.record.late.percentile_s(99)),
                "max": _ms(self.record.late.max_s),
            },
            "generator_cores": round(self.generator_cores, 3),
        }

    def lines(self, block: str = "#") -> Iterator[str]:
        """Yields the report for people; `block` is what bars are drawn with."""
        answered = self.record.answered
        size = f"{plural(self.images, 'image')} per request"
        yield f"{self.model} version {self.version}, {self.method}, {size}, {self.load}"
        yield (
            f"{answered.count:,} of {plural(self.record.total, 'request')} answered in {self.took_s:.2f} s: "
            f"{self.requests_per_s:,.1f} requests/s, {self.requests_per_s * self.images:,.1f} images/s"
        )
        yield from (f"  {status}: {plural(count, 'request')}" for status, count in self.record.errors.items())
        if answered.count:
            yield ""
            yield from self._percentiles()
            yield ""
            yield from self._bars(block)
        yield from self._warnings()

    def _percentiles(self) -> Iterator[str]:
        answered = self.record.answered
        rows = {f"p{percent:g}": answered.percentile_s(percent) for percent in PERCENTILES}
        for name, value_s in {"mean": answered.mean_s, **rows, "max": answered.max_s}.items():
            yield f"  {name:>5} {value_s * 1e3:>12.3f} ms"

    def _bars(self, block: str) -> Iterator[str]:
        bars = self.record.answered.histogram(_BARS)
        highest = max(count for _, count in bars)
        for end_s, count in bars:
            # A single request is visible too: the slowest ones matter most.
            width = max(round(count / highest * _BAR_WIDTH), int(count > 0))
            yield f"  <= {end_s * 1e3:>10.3f} ms {count:>9,} {block * width}".rstrip()

    def _warnings(self) -> Iterator[str]:
        if self.generator_cores > _BUSY_CORES:
            yield f"note: the generator used {self.generator_cores:.2f} cores and may itself have been the limit"
        late_s, p50_s = self.record.late.percentile_s(99), self.record.answered.percentile_s(50)
        if late_s > max(p50_s, 0.001):
            yield f"note: 1 % of the requests started {late_s * 1e3:.1f} ms late or more, which their latency includes"


def _ms(value_s: float) -> float:
    return round(value_s * 1e3, 6)


def plural(count: int, noun: str) -> str:
    """Returns a count with its noun."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
