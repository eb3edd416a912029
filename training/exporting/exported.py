"""What an export is asked for, and what comes of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixelserve.card import Card
from pixelserve.rows import RowProof
from pixelserve.scores import OutputKind

from ..measuring.challenge import Decision
from .output_kind import Found
from .precision import FLOAT32
from .publish import Slot


@dataclass(frozen=True)
class Target:
    """Where an export goes, and what it must hold to."""

    repository: Path
    """The model repository."""
    name: str | None = None
    """The model's name; None: the recipe's."""
    version: int | None = None
    """The version's number; None: the next one free."""
    tolerance: float | None = None
    """Largest absolute difference of an output element that is accepted; None: what is usual for its precision."""
    precision: str = FLOAT32
    """What the model computes in: float32, or int8."""
    output: str | None = None
    """The output whose classes the labels name; None: the one that they fit."""
    max_batch_size: int | None = None
    """Most samples in a batch; None: 64, or what config.pbtxt says for a model that has other versions."""
    output_kind: OutputKind | None = None
    """What that output is; None: it is found from the graph and the samples."""
    if_better: bool = False
    """Whether the version is written only if it is better than the one that serves."""


@dataclass(frozen=True)
class Exported:
    """A version that was written, or was not better than the one that serves."""

    slot: Slot
    """Where it is."""
    card: Card
    """Its evidence."""
    inputs: list[str]
    """Its inputs, each as name, element type and shape."""
    outputs: list[str]
    """Its outputs, in the same form."""
    output_kind: Found | None
    """What its classes' output is; None: it has no classes."""
    rows: RowProof
    """Whether a server may merge requests for it."""
    golden_samples: int
    """How many samples a server replays before the version takes traffic; 0: it stays unverified."""
    decision: Decision | None = None
    """Whether it was written, and why; None: it was not compared with another version, and was written."""

    @property
    def published(self) -> bool:
        """True if the version was written."""
        return self.decision is None or self.decision.publish

    @property
    def accuracy(self) -> float | None:
        """Measured by ONNX Runtime on the exported file, a fraction of 1; None: not measured, or it is a regression."""
        return self.card.evaluation.metrics.get("accuracy") if self.card.evaluation else None

    @property
    def max_abs_error(self) -> float | None:
        """Largest absolute difference of an output element from the original's; None: not compared."""
        if self.card.quantization:
            return self.card.quantization.max_abs_error
        return self.card.parity[0].max_abs_error if self.card.parity else None

    def as_json(self) -> dict[str, Any]:
        """Returns what `pixelserve export --json` prints."""
        return {
            "model": self.slot.model,
            "version": self.slot.version if self.published else None,
            "folder": str(self.slot.folder) if self.published else None,
            "published": self.published,
            "verdict": self.decision.as_json() if self.decision else None,
            "inputs": self.inputs,
            "outputs": self.outputs,
            "verified": self.golden_samples > 0,
            "accuracy": self.accuracy,
            "metrics": self.card.evaluation.metrics if self.card.evaluation else {},
            "max_abs_error": self.max_abs_error,
            "output_kind": self.card.output_kind,
            "rows": self.rows.state,
            "quantization": self.card.quantization.model_dump() if self.card.quantization else None,
        }
