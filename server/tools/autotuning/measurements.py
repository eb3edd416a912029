"""What was measured of a candidate, and how sure that is."""

from dataclasses import dataclass, field

import numpy as np

from .candidates import Candidate


@dataclass
class Entry:
    """A candidate's row in the race."""

    candidate: Candidate
    """What it is."""
    evidence: str = ""
    """What it proved, or empty."""
    out: str = ""
    """Why it is out of the race; empty while it is in."""
    accuracy: float | None = None
    """Its accuracy on labelled samples, a fraction of 1."""
    changed_labels: int | None = None
    """Samples for which it predicts another class than the default."""
    rates: dict[int, list[float]] = field(default_factory=dict)
    """By batch size, rows per second of each round."""
    times_us: dict[int, list[float]] = field(default_factory=dict)
    """By batch size, the median time of a run of each round, in microseconds."""

    def add(self, rows: int, measured: dict[str, float]) -> None:
        """Adds a round's measurement of a batch size."""
        self.rates.setdefault(rows, []).append(measured["rows_per_s"])
        self.times_us.setdefault(rows, []).append(measured["run_us"])

    def rate(self, rows: int) -> float:
        """Rows per second at a batch size: the median over rounds."""
        return float(np.median(self.rates[rows]))

    def time_us(self, rows: int) -> float:
        """Microseconds of a run at a batch size: the median over rounds."""
        return float(np.median(self.times_us[rows]))

    @property
    def spread(self) -> float:
        """How far rounds of the same differ: the largest, over sizes, of the middle half's width, as a fraction of the
        median."""
        found = 0.0
        for rates in self.rates.values():
            low, middle, high = np.percentile(rates, [25, 50, 75])
            found = max(found, float((high - low) / middle))
        return found


def speedup(entry: Entry, default: Entry, weights: dict[int, float]) -> float:
    """Returns how many times as fast as the default a candidate computes a workload.

    Args:
        entry: the candidate.
        default: the default.
        weights: by batch size, the share of all rows that are computed in batches of it.
    """
    times = [sum(share / each.rate(rows) for rows, share in weights.items()) for each in (default, entry)]
    return times[0] / times[1]
