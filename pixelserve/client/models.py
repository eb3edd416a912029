"""A server's models, versions and tensors."""

import json
from dataclasses import dataclass
from typing import Any

from pixelserve.v1 import classifier_pb2 as pb

_STATES = {
    pb.ModelVersion.STATE_READY: "READY",
    pb.ModelVersion.STATE_UNAVAILABLE: "UNAVAILABLE",
}


@dataclass(frozen=True)
class Tensor:
    """One input or output of a model."""

    name: str
    """Its name."""
    datatype: str
    """The Open Inference Protocol's name, such as UINT8."""
    shape: tuple[int, ...]
    """The dimensions; -1 if free."""
    labels: tuple[str, ...]
    """Class labels in index order, or empty."""


@dataclass(frozen=True)
class ModelVersion:
    """A model version that the server loaded or tried to load.

    Example:
        >>> with Client("127.0.0.1:8001") as client:
        ...     version = client.models("mnist-cnn")[0]
        >>> version.name, version.version, version.state
        ('mnist-cnn', '1', 'READY')
        >>> version.inputs[0].shape
        (-1, 28, 28, 1)
        >>> version.card["task"]
        'image'
    """

    name: str
    """The model's name."""
    version: str
    """The version's number."""
    state: str
    """READY, UNAVAILABLE, or UNKNOWN for states that this client does not know."""
    reason: str
    """Why it is not ready, or why it serves files other than those on disk; or empty."""
    provider: str
    """Name of the execution provider, such as CPUExecutionProvider."""
    verified: bool
    """Whether it reproduced its golden samples."""
    evidence: str
    """The verification in one sentence."""
    card_json: str
    """The text of card.json, or empty."""
    inputs: tuple[Tensor, ...]
    """What it takes."""
    outputs: tuple[Tensor, ...]
    """What it gives."""
    max_batch_size: int
    """Maximum images per request and batch; 0: the model has no batch dimension."""
    takes_images: bool
    """Whether `classify` supports it."""
    aliases: tuple[str, ...] = ()
    """Its names in config.pbtxt: stable, candidate, previous."""
    output_kind: str = ""
    """A classifier's output: probabilities, logits, sigmoids or scores; empty: not a classifier."""
    output_kind_reason: str = ""
    """How the output kind was determined."""
    unmerged: str = ""
    """Why requests are not merged, and what to do about it; empty: they are merged."""
    picture: str = ""
    """The preprocessing of pictures, in the words of docs/pictures.md; empty: pictures are not accepted."""
    engine: str = ""
    """What computes it, such as onnxruntime; two joined by + if small and large batches differ; empty: an older
    server."""
    precision: str = ""
    """What that computes in, such as float32, joined likewise."""

    @property
    def is_ready(self) -> bool:
        """Whether it is ready."""
        return self.state == "READY"

    @property
    def card(self) -> dict[str, Any] | None:
        """The card as a dictionary, or None."""
        return json.loads(self.card_json) if self.card_json else None


def models_of(response: pb.ListModelsResponse) -> list[ModelVersion]:
    """Converts a message."""
    return [_version_of(version) for version in response.versions]


def _version_of(version: pb.ModelVersion) -> ModelVersion:
    return ModelVersion(
        name=version.name,
        version=version.version,
        state=_STATES.get(version.state, "UNKNOWN"),
        reason=version.reason,
        provider=version.provider,
        verified=version.verified,
        evidence=version.evidence,
        card_json=version.card_json,
        inputs=tuple(map(_tensor_of, version.inputs)),
        outputs=tuple(map(_tensor_of, version.outputs)),
        max_batch_size=version.max_batch_size,
        takes_images=version.takes_images,
        aliases=tuple(version.aliases),
        output_kind=version.output_kind,
        output_kind_reason=version.output_kind_reason,
        unmerged=version.unmerged,
        picture=version.picture,
        engine=version.engine,
        precision=version.precision,
    )


def _tensor_of(tensor: pb.Tensor) -> Tensor:
    return Tensor(tensor.name, tensor.datatype, tuple(tensor.shape), tuple(tensor.labels))
