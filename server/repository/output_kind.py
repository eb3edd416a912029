"""Decides what the numbers of a version's output mean, once, when it is loaded."""

from collections.abc import Callable

from pixelserve.card import Card, Golden, Tensors
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
    """Returns what reads a version's output; None: the model is not a classifier.

    What config.pbtxt or the card declare holds. Otherwise the golden samples decide, and the inputs of its proof where
    there are none: outputs that all look like probabilities are taken for these, any others are scores. A softmax adds
    up to 1 on any input, and other numbers hardly ever do on several.

    Args:
        config: the model's settled configuration.
        files: what is written beside the version's model.
        session: computes it.
        inputs: what it is known to compute, rows along the first axis; None: nothing is.
        on_contradiction: receives the sentence for the log when an output proves the kind wrong.
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
    # A number a row without names is as likely to be a measure of something.
    if output.shape[1] == 1 and not output.labels and config.pictures is None:
        return None
    kind, reason = _assumed(files.golden, output, session, inputs)
    return ScoreReader(output, kind, reason, declared=False, on_contradiction=on_contradiction)


def is_uncertain(reader: ScoreReader) -> bool:
    """Returns whether a declaration would tell more than the outputs do."""
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
    """Returns the golden outputs, real [N, columns] each; none without such samples."""
    values = golden.outputs.get(output.name) if golden is not None else None
    return [values] if values is not None and values.ndim == 2 and values.dtype.kind == "f" else []


def _computed(output: TensorSpec, session: Session, inputs: Tensors) -> list[Array]:
    """Returns the output for inputs that a session is known to compute, real [rows, columns]; none of another rank."""
    values = session.run(inputs)[output.name]
    return [values] if values.ndim == 2 else []
