"""Interprets a classifier's output, and warns if the values contradict the assumed kind."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pixelserve.scores import (
    OUTPUT_KIND,
    OutputKind,
    Scores,
    are_finite,
    as_probabilities,
    contradict,
    each_class,
    is_single_unit,
    look_like_probabilities,
)

from .tensors import Array, TensorSpec


def scores_output(outputs: Sequence[TensorSpec]) -> TensorSpec | None:
    """Returns a classifier's output, floats [rows, classes], or None if the model is not a classifier.

    It is the only output with labels, or else the only one of that type and shape.
    """
    fitting = [spec for spec in outputs if spec.datatype.name.startswith("FP") and len(spec.shape) == 2]
    labelled = [spec for spec in fitting if spec.labels] or fitting
    return labelled[0] if len(labelled) == 1 else None


@dataclass(frozen=True)
class Reading:
    """Interpreted rows of an output."""

    kind: OutputKind
    """What the output's numbers mean."""
    columns: Scores
    """The model's number per class, float64 [N, classes]; higher is better."""
    numbers: Scores
    """Class probabilities, 0 to 1; the unchanged columns if the kind is scores."""
    finite: npt.NDArray[np.bool_]
    """Which rows are finite, bool [N]."""
    is_single_unit: bool
    """Whether one number per row represents two classes."""

    @property
    def are_probabilities(self) -> bool:
        """Whether the numbers are probabilities."""
        return self.kind != "scores"

    @property
    def are_exclusive(self) -> bool:
        """Whether they are probabilities of mutually exclusive classes."""
        return self.kind in ("probabilities", "logits") or (self.kind == "sigmoids" and self.is_single_unit)


class ScoreReader:
    """Interprets the output of one loaded version. Thread-safe.

    The kind is determined when the version is loaded. It can change once: a row that contradicts it makes all later
    rows scores, until the version is loaded again.

    Args:
        output: the classifier's output.
        kind: what its numbers mean.
        reason: how that is known, in a clause.
        declared: whether it was declared; otherwise every row is checked against the assumption.
        on_contradiction: receives a sentence for the log when a row contradicts the kind.
    """

    def __init__(
        self,
        output: TensorSpec,
        kind: OutputKind,
        reason: str,
        *,
        declared: bool,
        on_contradiction: Callable[[str], object] = lambda _: None,
    ) -> None:
        self.output = output
        """The interpreted output."""
        self.declared = declared
        """Whether the kind was declared, in config.pbtxt or the card."""
        self._first_kind = kind
        self._state = kind, reason
        self._on_contradiction = on_contradiction
        self._lock = threading.Lock()

    @property
    def kind(self) -> OutputKind:
        """What the numbers mean."""
        return self._state[0]

    @property
    def reason(self) -> str:
        """How that is known, in a clause."""
        return self._state[1]

    @property
    def is_contradicted(self) -> bool:
        """Whether an output has contradicted the first kind."""
        return self.kind != self._first_kind

    @property
    def classes(self) -> int:
        """Number of classes; -1 if only an answer shows it."""
        return 2 if is_single_unit(self.output.shape[1], len(self.output.labels)) else self.output.shape[1]

    def read(self, values: Array) -> Reading:
        """Interprets rows of the output, real [N, columns]."""
        labels = len(self.output.labels)
        kind = self._checked(values)
        columns = each_class(values, kind, labels)
        numbers = as_probabilities(columns, kind)
        return Reading(kind, columns, numbers, are_finite(numbers), is_single_unit(values.shape[1], labels))

    def _checked(self, values: Array) -> OutputKind:
        """Returns the kind, after checking it against these rows."""
        kind = self.kind
        if kind == "scores":
            return kind
        wrong = contradict(values, kind)
        if kind == "probabilities" and not self.declared:
            wrong |= are_finite(values) & ~look_like_probabilities(values, len(self.output.labels))
        if not wrong.any():
            return kind
        self._become_scores(kind, values[wrong][0])
        return "scores"

    def _become_scores(self, kind: OutputKind, row: Array) -> None:
        with self._lock:
            if self.kind == "scores":
                return
            given = "declared" if self.declared else "assumed"
            reason = f"{kind} were {given}, and the output gave {_shown(row)}, which are not"
            self._state = "scores", reason
        self._on_contradiction(f"{reason}; shown as scores from now on: correct {OUTPUT_KIND} in config.pbtxt")


def _shown(row: Array) -> str:
    few = ", ".join(f"{value:.4g}" for value in row[:4])
    return f"[{few}{', …' if len(row) > 4 else ''}]"
