"""Runs the batch sizes of a loaded version before it serves, and times them."""

import threading
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path

from ..engine.curve import UNMEASURED, LatencyCurve, powers_of_two
from ..engine.measuring import WarmupBudget, measure
from ..engine.policy import BatchingPolicy
from ..engine.providers import provider_at
from ..engine.session import Session
from ..engine.tensors import Array
from ..errors import RepositoryError

Inputs = Callable[[int], Mapping[str, Array] | None]
"""Returns a batch of `rows` rows by input, or whole inputs for 0 (no batch dimension); None if none are known."""


def choose_buckets(choice: str, max_batch_size: int, provider: str) -> tuple[int, ...]:
    """Returns the sizes that a model's batches are padded to, ascending; none without a batch dimension.

    Args:
        choice: as in `Tuning.buckets`. auto means powers of two if the provider is slow with new shapes, else none,
            because rows of zeros cost as much as images.
        max_batch_size: the model's.
        provider: ONNX Runtime's name of the execution provider.
    """
    if not max_batch_size or choice == "none" or (choice == "auto" and not provider_at(provider).new_shapes_are_slow):
        return ()
    if choice in ("auto", "powers"):
        return powers_of_two(max_batch_size)
    sizes = {int(size) for size in choice.split(",")}
    # The largest is always included; otherwise some batches would fit no bucket.
    return tuple(sorted({size for size in sizes if size < max_batch_size} | {max_batch_size}))


class Warming:
    """Warms the sessions of one version, including replacements. Thread-safe.

    The first session is measured; the memory of the measurements is released. The others are only warmed: on the CPU
    with the smallest batch size, because a first run costs only fresh memory; with every size if the provider is slow
    with new shapes, because each has its own kernel search, buffers and graph.

    Args:
        model: the file, for the message of an error.
        policy: the version's.
        inputs: gives what to run.
        budget: limits of the measuring.
        on_size: called with the rows of a size before its first run.
    """

    def __init__(
        self,
        model: Path,
        policy: BatchingPolicy,
        inputs: Inputs,
        budget: WarmupBudget,
        on_size: Callable[[int], object] = lambda _: None,
    ) -> None:
        self._model = model
        self._inputs = inputs
        self._budget = budget
        self._on_size = on_size
        self._sizes = policy.buckets or powers_of_two(policy.max_batch_size) or (1,)
        self._batches = policy.max_batch_size > 0
        self._curve: LatencyCurve | None = None
        # Sessions measured at the same time would slow each other down.
        self._measuring = threading.Lock()

    def warm(self, session: Session) -> LatencyCurve:
        """Warms a session, on the thread that will run it; returns the first session's measurements.

        Raises:
            RepositoryError: the model cannot compute a size.
        """
        try:
            with self._measuring:
                is_first = self._curve is None
                if self._curve is None:
                    self._curve = self._measure(session)
            if not is_first:
                self._announce(session)
            self._release_memory(session)
        except Exception as error:
            problem = (
                f"cannot compute a batch of {self._sizes[0]} to {self._sizes[-1]} rows: {error}; export the model "
                f"again, or write a smaller max_batch_size"
            )
            raise RepositoryError(problem, path=self._model) from error
        return self._curve

    def check(self, session: Session) -> None:
        """Runs the session on inputs it computed when it was warmed; raises what it raises."""
        known = self._batch(self._sizes[0])
        if known is not None:
            session.run(known)

    def _measure(self, session: Session) -> LatencyCurve:
        if self._batch(self._sizes[0]) is None:
            return UNMEASURED
        self._announce(session)
        every_size = provider_at(session.provider).new_shapes_are_slow
        return measure(self._runner(session), self._sizes, self._budget, every_size=every_size)

    def _announce(self, session: Session) -> None:
        if provider_at(session.provider).new_shapes_are_slow:
            for rows in self._sizes:
                self._on_size(rows)
                session.warm(rows if self._batches else 0, self._batch(rows) or {})

    def _runner(self, session: Session) -> Callable[[int], object]:
        # Inputs of one size at a time, because they are large too.
        @lru_cache(maxsize=1)
        def batch(rows: int) -> Mapping[str, Array]:
            self._on_size(rows)
            return self._batch(rows) or {}

        return lambda rows: session.run(batch(rows))

    def _release_memory(self, session: Session) -> None:
        """Makes a session release the memory of larger batches."""
        smallest = self._batch(self._sizes[0])
        if smallest is not None:
            session.release_memory(smallest)

    def _batch(self, rows: int) -> Mapping[str, Array] | None:
        return self._inputs(rows if self._batches else 0)
