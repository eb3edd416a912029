"""Decides from run times whether a model's requests may be computed on the thread that received them."""

# Handing a request over costs about 35 µs. A run shorter than this does not matter to what waits behind it on that
# thread: other models, refusals, cancellations.
LIMIT_NS = 300_000
# After a longer run, this many runs on a worker's thread must be shorter; twice as many after each further one. A busy
# machine makes a run long now and then. A model whose time depends on its input blocks that thread again, but at most
# once in a thousand runs.
_FEWEST = 16
_MOST = 1024


class ArrivalRuns:
    """Trusts the times at load until a run takes longer. Not thread-safe: the scheduler's lock guards it.

    Times at load are measured with one input, and a model's time may depend on its input.
    """

    def __init__(self) -> None:
        self.owed = 0
        """Number of short runs elsewhere until runs are allowed here again."""
        self._next_owed = _FEWEST
        self._short_in_a_row = 0

    def allows(self, measured_ns: int | None) -> bool:
        """Returns whether a run may be done there, by its time at load (None: not measured)."""
        return measured_ns is not None and measured_ns < LIMIT_NS and not self.owed

    def took(self, compute_ns: int) -> None:
        """Records a run that was done there."""
        if compute_ns >= LIMIT_NS:
            self.owed, self._next_owed, self._short_in_a_row = self._next_owed, min(2 * self._next_owed, _MOST), 0
            return
        self._short_in_a_row += 1
        if self._short_in_a_row >= _MOST:
            self._next_owed = _FEWEST

    def took_elsewhere(self, measured_ns: int | None, compute_ns: int) -> None:
        """Records a run on a worker's thread, with the time of its size at load."""
        # Larger runs are long whatever their input.
        if measured_ns is not None and measured_ns < LIMIT_NS:
            self.owed = self.owed - 1 if compute_ns < LIMIT_NS else self._next_owed
