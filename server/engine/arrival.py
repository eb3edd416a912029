"""Decides whether a model's requests may be computed on the thread that received them: by what runs took."""

# Handing a request over costs about 35 µs. A shorter run than this does not matter to what waits behind it on that
# thread: other models, refusals, cancellations.
LIMIT_NS = 300_000
# After a run that took longer, so many on a worker's thread must be shorter; twice as many after each further one. A
# busy machine makes a run long now and then. A model whose time depends on its input holds that thread up again, but
# for one run in a thousand at most.
_FEWEST = 16
_MOST = 1024


class ArrivalRuns:
    """Goes by the times at load until a run takes longer. Not thread-safe: the scheduler's lock guards it.

    Times at load are those of one input, and the time of a model may depend on its input.
    """

    def __init__(self) -> None:
        """Goes by the times at load."""
        self.owed = 0
        """How many short runs elsewhere it takes until they are allowed here again."""
        self._next_owed = _FEWEST
        self._short_in_a_row = 0

    def allows(self, measured_ns: int | None) -> bool:
        """Returns whether a run may be done there that took so long at load (None: it was not measured)."""
        return measured_ns is not None and measured_ns < LIMIT_NS and not self.owed

    def took(self, compute_ns: int) -> None:
        """Takes note of a run that was done there."""
        if compute_ns >= LIMIT_NS:
            self.owed, self._next_owed, self._short_in_a_row = self._next_owed, min(2 * self._next_owed, _MOST), 0
            return
        self._short_in_a_row += 1
        if self._short_in_a_row >= _MOST:
            self._next_owed = _FEWEST

    def took_elsewhere(self, measured_ns: int | None, compute_ns: int) -> None:
        """Takes note of a run on a worker's thread, and of what one of its size took at load."""
        # Larger runs are long whatever they compute.
        if measured_ns is not None and measured_ns < LIMIT_NS:
            self.owed = self.owed - 1 if compute_ns < LIMIT_NS else self._next_owed
