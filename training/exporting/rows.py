"""Proves that an exported model computes rows independently, like servers before they merge requests."""

from collections.abc import Mapping

from pixelserve.rows import Input, RowProof, distinct_rows, made_up_rows, prove_rows

from ..errors import SourceError
from ..runtime import Array, OnnxModel


def prove(model: OnnxModel, samples: Mapping[str, Array] | None, precision: str) -> RowProof:
    """Returns whether a model's requests may share a batch.

    Args:
        model: the exported model.
        samples: real inputs by name, samples along the first axis; None uses made-up values.
        precision: the model's precision, a key of `pixelserve.precisions.RULES`.
    """
    if not model.batches:
        return RowProof("single", "the tensors have no batch dimension")
    known = distinct_rows(samples) if samples is not None else {}
    if known and len(next(iter(known.values()))) > 1:
        return prove_rows(model.run_once, known, precision=precision)
    reason = "its inputs are too large for them"
    for inputs in made_up_rows({tensor.name: Input(tensor.dtype, tensor.shape) for tensor in model.inputs}):
        try:
            return prove_rows(model.run_once, inputs, precision=precision)
        except SourceError as error:
            reason = str(error)
    return RowProof("unproven", f"it cannot compute made-up values ({reason})")
