"""Reads a classifier's output: what its numbers mean, and a warning if they turn out to mean something else."""

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
    """Returns a classifier's output, floats [rows, classes]; None: the model is not a classifier.

    Of several it is the only one that has labels, else the only one of that type and shape.
    """
    fitting = [spec for spec in outputs if spec.datatype.name.startswith("FP") and len(spec.shape) == 2]
    labelled = [spec for spec in fitting if spec.labels] or fitting
    return labelled[0] if len(labelled) == 1 else None


@dataclass(frozen=True)
class Reading:
    """Rows of an output, as they are to be understood."""

    kind: OutputKind
    """What the output's numbers mean."""
    columns: Scores
    """A number for each class as the model gave it, float64 [N, classes]: the higher, the better."""
    numbers: Scores
    """The classes' probabilities, 0 to 1; the columns themselves if the kind is scores."""
    finite: npt.NDArray[np.bool_]
    """Which rows have neither NaN nor an infinity among their numbers, bool [N]."""
    is_single_unit: bool
    """Whether one number per row stands for two classes."""

    @property
    def are_probabilities(self) -> bool:
        """Whether the numbers are probabilities."""
        return self.kind != "scores"

    @property
    def are_exclusive(self) -> bool:
        """Whether they are probabilities of mutually exclusive classes."""
        return self.kind in ("probabilities", "logits") or (self.kind == "sigmoids" and self.is_single_unit)


class ScoreReader:
    """Reads the output of one loaded version. May be used from any thread.

    What the numbers mean is decided when the version is loaded. After that it can change once: a row that cannot be
    what was declared or assumed makes all later ones scores, until the version is loaded again.
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
        """Starts with the kind that is known at load.

        Args:
            output: the classifier's output.
            kind: what its numbers mean.
            reason: how that is known, in a clause.
            declared: whether it was declared; otherwise every row is held against what was assumed.
            on_contradiction: receives the sentence for the log when a row proves the kind wrong.
        """
        self.output = output
        """The output that is read."""
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
        """Whether an output has proved the first kind wrong."""
        return self.kind != self._first_kind

    @property
    def classes(self) -> int:
        """Number of classes; -1 if only an answer shows it."""
        return 2 if is_single_unit(self.output.shape[1], len(self.output.labels)) else self.output.shape[1]

    def read(self, values: Array) -> Reading:
        """Returns what rows of the output mean: real [N, columns]."""
        labels = len(self.output.labels)
        kind = self._checked(values)
        columns = each_class(values, kind, labels)
        numbers = as_probabilities(columns, kind)
        return Reading(kind, columns, numbers, are_finite(numbers), is_single_unit(values.shape[1], labels))

    def _checked(self, values: Array) -> OutputKind:
        """Returns what the numbers mean, in the light of these rows as well."""
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
