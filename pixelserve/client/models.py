"""What a server has: models, their versions and their tensors."""

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
    """As the Open Inference Protocol says it, such as UINT8."""
    shape: tuple[int, ...]
    """Its dimensions; -1 where a request chooses."""
    labels: tuple[str, ...]
    """Class labels in index order; empty: it has none."""


@dataclass(frozen=True)
class ModelVersion:
    """One version of a model, which the server has loaded or tried to load.

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
    """READY, UNAVAILABLE, or UNKNOWN where the server says something that this client does not know."""
    reason: str
    """Why it is not ready, or why it is and serves other files than are on disk; empty: there is nothing to say."""
    provider: str
    """ONNX Runtime's name of what it computes on, such as CPUExecutionProvider."""
    verified: bool
    """Whether it reproduced its golden samples."""
    evidence: str
    """The same for people, in one sentence."""
    card_json: str
    """Its card.json as text; empty: it has none."""
    inputs: tuple[Tensor, ...]
    """What it takes."""
    outputs: tuple[Tensor, ...]
    """What it gives."""
    max_batch_size: int
    """Most images in a request and in a batch; 0: the model has no batch dimension."""
    takes_images: bool
    """Whether `classify` works with it."""
    aliases: tuple[str, ...] = ()
    """What its model's config.pbtxt calls it: stable, candidate, previous."""
    output_kind: str = ""
    """What a classifier's output is: probabilities, logits, sigmoids or scores; empty: not a classifier."""
    output_kind_reason: str = ""
    """How that is known, in a clause."""
    unmerged: str = ""
    """Why each request is computed by itself, and what to do about it; empty: nothing speaks against merging them."""
    picture: str = ""
    """What becomes of a picture before the model sees it, in the words of docs/pictures.md; empty: it takes none."""

    @property
    def is_ready(self) -> bool:
        """Whether it serves."""
        return self.state == "READY"

    @property
    def card(self) -> dict[str, Any] | None:
        """Its card as a dictionary; None: it has none."""
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
    )


def _tensor_of(tensor: pb.Tensor) -> Tensor:
    return Tensor(tensor.name, tensor.datatype, tuple(tensor.shape), tuple(tensor.labels))
