"""A version of a model that is ready to serve."""

from dataclasses import dataclass

from pixelserve.rows import RowProof

from ..engine.batcher import Batcher
from ..engine.curve import LatencyCurve
from ..engine.providers import InUse
from ..engine.scores import ScoreReader
from .config import ModelConfig
from .evidence import Evidence
from .layout import ModelFolder

_REMEDIES = {
    "dependent": "export the model in inference mode, with the batch as the first axis of every input and output",
    "unproven": "export the model with --samples, or give it model_warmup in config.pbtxt",
}


@dataclass(frozen=True)
class LoadedVersion:
    """A ready version."""

    config: ModelConfig
    """The model's effective configuration."""
    folder: ModelFolder
    """Its folder, from which a replacement session is loaded too."""
    version: int
    """The version's number."""
    in_use: InUse
    """Where and how it computes."""
    evidence: Evidence
    """Its evidence."""
    rows: RowProof
    """Whether requests of different callers may share a run, as proven at load."""
    batcher: Batcher
    """Takes its requests."""
    load_s: float
    """Duration of loading, replaying and warming, in seconds."""
    scores: ScoreReader | None = None
    """Reads its output as scores; None if it is not a classifier."""

    @property
    def provider(self) -> str:
        """Name of its execution provider."""
        return self.in_use.provider

    @property
    def precision(self) -> str:
        """What it computes in: its file's precision if that is quantized, else what its engines make of float32."""
        card = self.evidence.card
        quantized = card.quantization.precision if card is not None and card.quantization is not None else ""
        return quantized or self.in_use.precision

    @property
    def name(self) -> str:
        """The model's name."""
        return self.config.name

    @property
    def curve(self) -> LatencyCurve:
        """Run time by batch size."""
        return self.batcher.curve

    @property
    def batch_limit(self) -> int:
        """Maximum rows merged into a run; 0: requests are not merged."""
        return self.batcher.limit if self.batcher.merges else 0

    @property
    def row_state(self) -> str:
        """The state of its `RowProof`, or dependent if serving has shown it."""
        return "dependent" if self.batcher.row_fault else self.rows.state

    @property
    def unmerged(self) -> str:
        """Why requests must not share a run, and the remedy; empty if they may."""
        return why_unmerged(self.row_state, self.batcher.row_fault or self.rows.reason)


def why_unmerged(row_state: str, reason: str) -> str:
    """Returns why requests must not share a run, and the remedy; empty if they may."""
    remedy = _REMEDIES.get(row_state)
    return f"{reason}; requests are not merged; {remedy}" if remedy else ""
