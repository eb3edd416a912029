"""Runs the batch sizes of a loaded version before it serves, and times them."""

from collections.abc import Callable, Mapping
from pathlib import Path

from ..engine.curve import UNMEASURED, LatencyCurve, measure, powers_of_two
from ..engine.policy import BatchingPolicy
from ..engine.providers import CUDA
from ..engine.session import Session
from ..engine.tensors import Array
from ..errors import RepositoryError

Inputs = Callable[[int], Mapping[str, Array] | None]
"""Gives a batch of so many rows by input, or whole inputs for 0 (no batch dimension); None: none are known."""


def choose_buckets(choice: str, max_batch_size: int, provider: str) -> tuple[int, ...]:
    """Returns the sizes that a model's batches are padded to, rising; none for one without a batch dimension.

    Args:
        choice: as in `Tuning.buckets`. auto means powers of two on CUDA, where another shape costs a search for
            kernels, and none on the CPU, where rows of zeros cost as much as images.
        max_batch_size: the model's.
        provider: ONNX Runtime's name of where it computes.
    """
    if not max_batch_size or choice == "none" or (choice == "auto" and provider != CUDA):
        return ()
    if choice in ("auto", "powers"):
        return powers_of_two(max_batch_size)
    sizes = {int(size) for size in choice.split(",")}
    # The largest is always there, or some batch would fit no bucket.
    return tuple(sorted({size for size in sizes if size < max_batch_size} | {max_batch_size}))


def warm(model: Path, policy: BatchingPolicy, inputs: Inputs, session: Session) -> LatencyCurve:
    """Runs every batch size, so that no request pays for a first run, and times it.

    Args:
        model: the file, for the message of an error.
        policy: the version's.
        inputs: gives what to run.
        session: is warmed.

    Raises:
        RepositoryError: the model cannot compute a size.
    """
    sizes = policy.buckets or powers_of_two(policy.max_batch_size) or (1,)
    batches = policy.max_batch_size > 0
    samples = {rows: inputs(rows if batches else 0) for rows in sizes}
    if None in samples.values():
        return UNMEASURED
    try:
        for rows in sizes:
            session.warm(rows if batches else 0)
        return measure(lambda rows: session.run(samples[rows] or {}), sizes)
    except Exception as error:
        problem = (
            f"cannot compute a batch of {sizes[0]} to {sizes[-1]} rows: {error}; export the model again, or "
            f"write a smaller max_batch_size"
        )
        raise RepositoryError(problem, path=model) from error


def check(policy: BatchingPolicy, inputs: Inputs, session: Session) -> None:
    """Raises what the session raises on inputs that it computed when it was warmed."""
    known = inputs(1 if policy.max_batch_size else 0)
    if known is not None:
        session.run(known)
