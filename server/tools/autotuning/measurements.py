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


@dataclass(frozen=True)
class Speedup:
    """How many times as fast as the default a candidate computes a workload.

    Both are compared within each round, where they were measured right after each other: what slows the machine for
    longer slows both.
    """

    times: float
    """The median over rounds."""
    low: float
    """The lower end of its 95 % interval."""
    high: float
    """The upper end."""

    @property
    def spread(self) -> float:
        """The interval's width as a fraction of the median."""
        return (self.high - self.low) / self.times


def speedup(entry: Entry, default: Entry, weights: dict[int, float]) -> Speedup:
    """Returns the speed-up of a candidate.

    The interval is that of a median by ranks, whatever the distribution; with five rounds or fewer, all of them.

    Args:
        entry: the candidate.
        default: the default.
        weights: by batch size, the share of all rows that are computed in batches of it.
    """
    times = [sum(share / np.asarray(each.rates[rows]) for rows, share in weights.items()) for each in (default, entry)]
    rounds = np.sort(times[0] / times[1])
    # The number of rounds below the median is binomial, nearly normal: n/2 ± 1.96 · √n/2.
    first = max(int((len(rounds) - 1.96 * len(rounds) ** 0.5) / 2), 0)
    return Speedup(float(np.median(rounds)), float(rounds[first]), float(rounds[-1 - first]))


def lone_share(entry: Entry, default: Entry) -> float:
    """Returns the time of a candidate's run of one row, as a share of the default's in the same round; the median."""
    return float(np.median(np.asarray(entry.times_us[1]) / np.asarray(default.times_us[1])))
