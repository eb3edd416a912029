"""Decides at load what a version's output is: probabilities or scores."""

from collections.abc import Callable

from pixelserve.card import Card
from pixelserve.golden import Golden, Tensors
from pixelserve.scores import OutputKind, are_finite, is_single_unit, look_like_probabilities

from ..engine.scores import ScoreReader, scores_output
from ..engine.session import Session
from ..engine.tensors import Array, TensorSpec
from .config import ModelConfig
from .evidence import VersionFiles


def read_scores(
    config: ModelConfig,
    files: VersionFiles,
    session: Session,
    inputs: Tensors | None,
    on_contradiction: Callable[[str], object],
) -> ScoreReader | None:
    """Returns the reader of a version's output; None if the model is not a classifier.

    A declaration in config.pbtxt or the card decides. Without one the golden samples do, or else the inputs of its
    proof: outputs that all look like probabilities are probabilities, any others are scores. A softmax adds up to 1 on
    any input; other numbers hardly ever do on several.

    Args:
        config: the model's effective configuration.
        files: the version's files.
        session: computes it.
        inputs: inputs it can compute, rows along the first axis, or None.
        on_contradiction: receives a sentence for the log when an output contradicts the kind.
    """
    output = scores_output(config.outputs)
    if output is None:
        return None
    declared, where = _declared(config, files.card)
    if declared is not None:
        reader = ScoreReader(output, declared, f"as {where} says", declared=True, on_contradiction=on_contradiction)
        for values in _golden(files.golden, output):
            reader.read(values)
        return reader
    # One number per row without labels is as likely a regression.
    if output.shape[1] == 1 and not output.labels and config.pictures is None:
        return None
    kind, reason = _assumed(files.golden, output, session, inputs)
    return ScoreReader(output, kind, reason, declared=False, on_contradiction=on_contradiction)


def is_uncertain(reader: ScoreReader) -> bool:
    """Returns whether the kind was guessed and should be declared."""
    if reader.declared:
        return reader.is_contradicted
    return reader.kind == "scores" or is_single_unit(reader.output.shape[1], len(reader.output.labels))


def _declared(config: ModelConfig, card: Card | None) -> tuple[OutputKind | None, str]:
    if config.output_kind is not None:
        return config.output_kind, "config.pbtxt"
    return (card.output_kind if card else None), "the card"


def _assumed(
    golden: Golden | None, output: TensorSpec, session: Session, inputs: Tensors | None
) -> tuple[OutputKind, str]:
    rows, source = _golden(golden, output), "golden samples"
    if not rows and inputs is not None:
        rows, source = _computed(output, session, inputs), "outputs of the inputs that it was tried with"
    finite = [values[are_finite(values)] for values in rows]
    if not sum(map(len, finite)):
        return "scores", "not declared, and there were no outputs to tell by"
    if all(look_like_probabilities(values, len(output.labels)).all() for values in finite):
        return "probabilities", f"not declared; the {source} look like probabilities"
    return "scores", f"not declared, and the {source} are not probabilities"


def _golden(golden: Golden | None, output: TensorSpec) -> list[Array]:
    """Returns the golden outputs, real [N, columns] each, if any."""
    values = golden.outputs.get(output.name) if golden is not None else None
    return [values] if values is not None and values.ndim == 2 and values.dtype.kind == "f" else []


def _computed(output: TensorSpec, session: Session, inputs: Tensors) -> list[Array]:
    """Returns the output for inputs that a session can compute, real [rows, columns]; none if its rank differs."""
    values = session.run(inputs)[output.name]
    return [values] if values.ndim == 2 else []
