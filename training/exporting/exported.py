"""The target and the result of an export."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pixelserve.card import Card
from pixelserve.rows import RowProof
from pixelserve.scores import OutputKind

from ..measuring.challenge import Decision
from .converters.base import Conversion
from .output_kind import Found
from .precision import FLOAT32
from .publish import Slot


@dataclass(frozen=True)
class Target:
    """Target and settings of an export."""

    repository: Path
    """The model repository."""
    name: str | None = None
    """The model's name; None uses the recipe's."""
    version: int | None = None
    """The version number; None uses the next free one."""
    tolerance: float | None = None
    """Maximum accepted absolute difference of an output element; None uses the precision's default."""
    precision: str = FLOAT32
    """The computation precision: float32, float16 or int8."""
    output: str | None = None
    """The output that the labels belong to; None finds it by its shape."""
    max_batch_size: int | None = None
    """Maximum samples in a batch; None: 64, or config.pbtxt's value if the model has other versions."""
    output_kind: OutputKind | None = None
    """The kind of that output; None derives it from the graph and the samples."""
    if_better: bool = False
    """Whether to write the version only if it is better than the serving one."""
    conversion: Conversion = field(default_factory=Conversion)
    """How the model becomes ONNX."""
    also: tuple[str, ...] = ()
    """Other formats to write, by name."""
    also_to: Path | None = None
    """Their folder, outside the repository."""


@dataclass(frozen=True)
class Exported:
    """The result of an export: a written version, or one that was not better than the serving version."""

    slot: Slot
    """Where it is."""
    card: Card
    """Its evidence."""
    inputs: list[str]
    """Inputs, each as name, element type and shape."""
    outputs: list[str]
    """Outputs, in the same form."""
    output_kind: Found | None
    """The kind of its classes output, or None without classes."""
    rows: RowProof
    """Whether a server may merge requests for it."""
    golden_samples: int
    """Number of samples that a server replays before it serves the version; with 0 it stays unverified."""
    decision: Decision | None = None
    """Whether it was written, and why; None if it was written without a comparison."""

    @property
    def published(self) -> bool:
        """Whether the version was written."""
        return self.decision is None or self.decision.publish

    @property
    def accuracy(self) -> float | None:
        """Accuracy of the exported file in ONNX Runtime, a fraction of 1; None if not measured, or for a regression."""
        return self.card.evaluation.metrics.get("accuracy") if self.card.evaluation else None

    @property
    def max_abs_error(self) -> float | None:
        """Maximum absolute difference of an output element from the original's, or None if not compared."""
        if self.card.quantization:
            return self.card.quantization.max_abs_error
        return self.card.parity[0].max_abs_error if self.card.parity else None

    def as_json(self) -> dict[str, Any]:
        """Returns the output of `pixelserve export --json`."""
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
            "opset": self.card.opset,
            "other_formats": [entry.model_dump() for entry in self.card.other_formats],
            "quantization": self.card.quantization.model_dump() if self.card.quantization else None,
        }
