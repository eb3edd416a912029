"""A model version's card, card.json: what it is, how it was made and measured, and its files' hashes.

Training writes it, and the server checks it before the version serves. This module requires pydantic, which the extras
`server` and `training` install.
"""

import re
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from .external_data import MODEL_FILE as MODEL_FILE
from .external_data import ExternalDataError, external_hashes
from .external_data import sha256_of as sha256_of
from .figures import Baseline, Calibration, Evaluation, Part
from .scores import OutputKind
from .text import TextError, read_text

CARD_FILE = "card.json"
GOLDEN_FILE = "golden.npz"
GOLDEN_PICTURE_FILE = "golden-picture.npz"
SCHEMA_VERSION = 1
CARD_BYTES = 4 << 20
"""Maximum bytes of a card, which is sent whole in answers."""

# The tolerance for float32 kernels of a provider without an entry in the card.
UNLISTED_TOLERANCE = 1e-3

Task = Literal["image", "tabular", "regression", "unknown"]
"""A model's task: classes of pictures, classes of rows of a table, or values."""

# A JSON array of numbers over several lines.
_NUMBERS = re.compile(r"\[\n[\s\d.,eE+-]*\]")


class CardError(Exception):
    """A card or golden file is unreadable or does not match; the message names the file and the remedy."""


class Reference(Part):
    """The reference of the exported model."""

    framework: str = Field(description="name of the framework that gave the golden outputs, such as keras")
    version: str = Field(description="its version")


class DataSet(Part):
    """The data for training and evaluation."""

    name: str = Field(description="the data set's usual name")
    sha256: str = Field(description="hash over the names and bytes of its files, in hex")
    note: str = Field(default="", description="anything that makes its figures differ from published ones")


class Parity(Part):
    """How closely a provider must reproduce the golden outputs in a precision."""

    precision: str = Field(description="float32, int8, ...")
    provider: str = Field(description="ONNX Runtime's name of it, such as CPUExecutionProvider")
    tolerance: float = Field(description="largest absolute difference of an output element that is accepted", gt=0)
    max_abs_error: float | None = Field(default=None, description="largest one measured at export; None: not measured")
    samples: int = Field(default=0, description="how many samples it was measured on")


class Quantization(Part):
    """The float32 origin of an int8 or float16 version, and how the two compare; measured at export."""

    precision: str = Field(description="what weights and activations are: int8 or float16")
    original: Reference = Field(description="the framework that gave the float32 model, and was compared with that")
    calibration_split: str = Field(description="what the ranges of activations were found or checked on, such as train")
    calibration_samples: int = Field(description="how many samples that is", ge=1)
    compared_split: str | None = Field(
        default=None, description="the split that both were measured on; None: that of the evaluation, in an older card"
    )
    float32_accuracy: float = Field(description="accuracy of the float32 model on that split, a fraction of 1")
    changed_labels: int = Field(description="samples for which the two predict another label")
    max_abs_error: float = Field(description="largest absolute difference of an output element from float32's")
    relative_bytes: float = Field(description="size of the file divided by float32's")
    relative_time: dict[str, float] = Field(
        description="time of a sample divided by float32's, by batch size; on one thread of the CPU that exported it"
    )


class OtherFormat(Part):
    """The model in another runtime's format, written outside the repository, and how it compares with model.onnx."""

    format: str = Field(description="tflite or openvino")
    files: dict[str, str] = Field(description="SHA-256 in hex of each of its files, by name")
    runtime: str = Field(description="the library that ran it at export")
    runtime_version: str = Field(description="its version")
    tolerance: float = Field(description="largest absolute difference of an output element that was accepted", gt=0)
    max_abs_error: float = Field(description="largest one from ONNX Runtime's output")
    samples: int = Field(description="how many samples it was measured on", ge=1)


class Card(Part):
    """The evidence of a model version."""

    schema_version: Literal[1] = 1
    name: str
    task: Task = Field(description="unknown: neither the file nor its owner says")
    sha256: str = Field(description="of model.onnx, in hex: proves that the file is whole, not where it came from")
    external_data: dict[str, str] | None = Field(
        default=None,
        description="SHA-256 in hex of each file beside model.onnx that holds weights, by its path from there",
    )
    created: str = Field(description="time of the export, ISO 8601, UTC")
    reference: Reference | None = None
    dataset: DataSet | None = None
    evaluation: Evaluation | None = None
    calibration: Calibration | None = None
    baseline: Baseline | None = None
    parity: list[Parity] = Field(default_factory=list)
    quantization: Quantization | None = Field(default=None, description="None: float32, or not compared with it")
    other_formats: list[OtherFormat] = Field(default_factory=list, description="of the same model, kept elsewhere")
    output_kind: OutputKind | None = Field(default=None, description="what a classifier's output is; None: not known")
    picture: str | None = Field(
        default=None,
        description="the pictures that it was exported for, in the words of docs/pictures.md; None: not known, or none",
    )
    parameters: int | None = Field(default=None, description="weights in the model")
    opset: int | None = Field(default=None, description="version of ONNX's operator set in the file; None: not known")
    recipe: str | None = None
    seed: int | None = None
    held_out: float | None = Field(
        default=None, description="share of the training split that was never learned, a fraction of 1; None: not known"
    )
    hold_out: Literal["stratified"] | None = Field(
        default=None, description="how those samples were chosen; None: by an earlier release, which held out others"
    )
    versions: dict[str, str] = Field(default_factory=dict, description="version by library that had a hand in the file")

    def tolerance(self, provider: str) -> float:
        """Returns the largest absolute output difference accepted on `provider`.

        One that is not listed gets float32's; of a quantized model the largest listed, which covers other kernels.
        """
        listed = {entry.provider: entry.tolerance for entry in self.parity}
        others = max(listed.values(), default=0.0) if self.quantization is not None else 0.0
        return listed.get(provider, max(others, UNLISTED_TOLERANCE))

    def write(self, path: Path) -> None:
        """Writes the card as indented JSON, with each array of numbers on one line.

        Raises:
            CardError: it is too large.
        """
        indented = self.model_dump_json(indent=2, exclude_none=True) + "\n"
        text = _NUMBERS.sub(lambda found: " ".join(found[0].split()).replace("[ ", "[").replace(" ]", "]"), indented)
        if (size := len(text.encode())) > CARD_BYTES:
            raise CardError(f"{path}: the card has {size:,} bytes; at most {CARD_BYTES:,} are read")
        path.write_text(text, encoding="utf-8")


def read_card(path: Path) -> Card:
    """Reads a card.

    Raises:
        CardError: the file is not a card of schema version 1; the first wrong field is named.
    """
    try:
        return Card.model_validate_json(read_text(path, CARD_BYTES))
    except TextError as error:
        raise CardError(f"{path}: the whole file: {error}, or export the model again") from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the whole file"
        raise CardError(f"{path}: {field}: {first['msg']}; export the model again, or remove the card") from error


def verify_model_file(card: Card, model: Path) -> None:
    """Checks that the model file, and the files with its weights, are the card's.

    Raises:
        CardError: a file is different, damaged, or not in the card.
        OSError: a file is missing or cannot be read.
    """
    _verify(model, sha256_of(model), card.sha256)
    try:
        hashes = external_hashes(model)
    except ExternalDataError as error:
        raise CardError(f"{model}: {error}") from error
    for name, found in hashes.items():
        _verify(model.parent / name, found, (card.external_data or {}).get(name))


def _verify(path: Path, found: str, described: str | None) -> None:
    if described is None:
        raise CardError(f"{path}: holds weights of the model, and its card has no hash of it; export the version again")
    if found != described:
        raise CardError(
            f"{path}: SHA-256 is {found[:12]}…, its card says {described[:12]}…; "
            f"the file is damaged or not the one that was exported: copy the version again, or export it again"
        )
