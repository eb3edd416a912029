"""Compares an engine with ONNX Runtime where no golden samples show what a model must compute."""

import mmap
from dataclasses import replace
from pathlib import Path

from pixelserve.golden import Golden, GoldenMismatchError, Tensors, replay_by_rule
from pixelserve.precisions import lowered_precision
from pixelserve.rows import count_rows, repeat_rows

from ..engine.providers import DEFAULT_ENGINES
from ..engine.session import Session
from ..errors import RepositoryError
from .opening import Opener
from .scheduling import Placement

_REFERENCE = DEFAULT_ENGINES[0].engine
# Parts of the names of operators that compute in integers, where each engine rounds differently.
_INTEGER_OPERATORS = (b"QuantizeLinear", b"QLinear", b"MatMulInteger", b"ConvInteger", b"MatMulNBits")


def compare_with_reference(opener: Opener, session: Session, inputs: Tensors, max_batch_size: int) -> None:
    """Compares what a session computes with what ONNX Runtime computes on the CPU in float32.

    Does nothing if ONNX Runtime computes all batch sizes or cannot compute the model, or if the model draws random
    numbers.

    Args:
        opener: opens the model.
        session: the session.
        inputs: inputs that it can compute: [rows, ...], or one whole set for a model without a batch dimension.
        max_batch_size: the largest batch; 0: the model has no batch dimension.

    Raises:
        RepositoryError: the outputs differ by more than the rule of the session's precision allows.
    """
    others = [choice for choice in opener.options.engines if choice.engine != _REFERENCE]
    if not others:
        return
    options = replace(opener.options, engines=DEFAULT_ENGINES, device="cpu", require_gpu=False)
    try:
        reference = replace(opener, options=options).open(Placement("auto"))
    except RepositoryError:
        return
    precision = _precision(opener.model, session)
    for choice in others:
        rows = min(max(choice.from_rows, count_rows(inputs)), max_batch_size)
        batch = repeat_rows(inputs, rows) if max_batch_size else dict(inputs)
        try:
            expected = Golden(batch, dict(reference.run(batch)))
        except Exception:  # noqa: BLE001  whatever it raises, it computes nothing to compare with
            return
        if not _repeats(session, batch, precision):
            return
        try:
            replay_by_rule(expected, session.run, precision)
        except GoldenMismatchError as mismatch:
            raise RepositoryError(
                f"{choice.engine} computes something else than {_REFERENCE} from the same inputs: {mismatch}; "
                f"use --engine {_REFERENCE}, or export the model with golden samples, which then decide",
                path=opener.model,
            ) from mismatch


def _repeats(session: Session, inputs: Tensors, precision: str) -> bool:
    try:
        replay_by_rule(Golden(dict(inputs), dict(session.run(inputs))), session.run, precision)
    except GoldenMismatchError:
        return False
    return True


def _precision(model: Path, session: Session) -> str:
    """Returns the least exact precision that a session may compute in."""
    with model.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        has_integers = any(content.find(name) >= 0 for name in _INTEGER_OPERATORS)
    return lowered_precision((*session.precisions, *(["int8"] if has_integers else []))) or "float32"
