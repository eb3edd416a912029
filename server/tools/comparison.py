"""Compares two versions of a model on their golden samples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pixelserve.card import CARD_FILE, GOLDEN_FILE, Card, CardError, read_card
from pixelserve.external_data import ExternalDataError, external_files, find_model_file
from pixelserve.golden import Tensors, largest_difference, read_golden
from pixelserve.scores import each_class

from ..engine.providers import SessionOptions
from ..engine.scores import scores_output
from ..engine.session import Session
from ..engine.tensors import Array
from ..errors import NotFound, RepositoryError, UnknownName, unreadable
from ..repository.aliases import CANDIDATE, STABLE, read_aliases
from ..repository.config import Defaults, model_file_name, read_config, read_reshapes, resolve
from ..repository.layout import ModelFolder, find_model
from ..repository.proof import in_batches

# The maximum batch of a model without config.pbtxt; the queue is not used.
_DEFAULTS = Defaults(max_batch_size=64, max_queue_size=1)


@dataclass(frozen=True)
class Side:
    """One of the two versions."""

    version: int
    """Its number."""
    aliases: tuple[str, ...]
    """Its names in config.pbtxt."""
    size_bytes: int
    """Size of its model file."""
    card: Card | None
    """Its card, or None."""


@dataclass(frozen=True)
class Agreement:
    """How far two versions agree on the same samples."""

    samples: int
    """Number of distinct golden samples of both versions."""
    same_labels: int | None
    """Samples with the same predicted class; None if an output is not class scores."""
    largest_difference: float
    """Largest absolute difference of an element of an output."""


@dataclass(frozen=True)
class Comparison:
    """Two versions side by side."""

    model: str
    """The model's name."""
    sides: tuple[Side, Side]
    """The two versions, in the requested order."""
    agreement: Agreement | None
    """Their agreement; None if there is nothing to compare."""
    reason: str = ""
    """Why there is none."""


def compare(repository: Path, name: str, first: str = "", second: str = "") -> Comparison:
    """Compares two versions of a model on the CPU.

    Args:
        repository: folder of models.
        name: the model's.
        first: number or name; empty: the stable version, else the one below the second.
        second: number or name; empty: the candidate, else the highest.

    Raises:
        RepositoryError: a model or version does not exist or cannot be loaded.
    """
    try:
        folder = find_model(repository, name)
    except NotFound as error:
        raise UnknownName(f"{repository}: {error}") from error
    aliases = read_aliases(folder, read_config(folder), folder.versions())
    chosen = _choose(folder, aliases, first, second)
    left, right = (_side(folder, version, aliases) for version in chosen)
    try:
        samples = _golden_inputs(folder, chosen)
        agreement = _agreement(*(_compute(folder, version, samples) for version in chosen))
    except CardError as error:
        return Comparison(name, (left, right), None, str(error))
    return Comparison(name, (left, right), agreement)


def _choose(folder: ModelFolder, aliases: Mapping[str, int], first: str, second: str) -> tuple[int, int]:
    versions = folder.versions()
    left, right = (_number(folder, aliases, text) if text else None for text in (first, second))
    if len(versions) < 2:
        raise RepositoryError(f"{folder.path} has {len(versions)} versions; expected two to compare")
    right = right or aliases.get(CANDIDATE, versions[-1])
    lower = [version for version in versions if version < right]
    left = left or aliases.get(STABLE) or (lower or versions)[-1]
    return left, right


def _number(folder: ModelFolder, aliases: Mapping[str, int], text: str) -> int:
    version = aliases.get(text) or (int(text) if text.isascii() and text.isdigit() else 0)
    if version not in folder.versions():
        known = [*map(str, folder.versions()), *aliases]
        raise UnknownName(f'{folder.path} has no version "{text}"; it has {", ".join(known)}')
    return version


def _side(folder: ModelFolder, version: int, aliases: Mapping[str, int]) -> Side:
    path = folder.version_path(version)
    try:
        model = find_model_file(path, model_file_name(read_config(folder)))
        files = [model, *(model.parent / name for name in external_files(model))]
        size_bytes = sum(file.stat().st_size for file in files)
        card = read_card(path / CARD_FILE) if (path / CARD_FILE).is_file() else None
    except (OSError, CardError, ExternalDataError) as error:
        raise unreadable(path, error) from error
    called = tuple(alias for alias, number in aliases.items() if number == version)
    return Side(version, called, size_bytes, card)


def _golden_inputs(folder: ModelFolder, versions: Sequence[int]) -> Tensors:
    """Returns the distinct golden inputs of some versions.

    Raises:
        CardError: there are none, they are damaged, or the versions' inputs differ.
    """
    paths = [folder.version_path(version) / GOLDEN_FILE for version in versions]
    found = [read_golden(path).inputs for path in paths if path.is_file()]
    if not found:
        raise CardError(f"neither version has a {GOLDEN_FILE}; export one with `pixelserve export`")
    forms = [{name: (array.dtype.str, array.shape[1:]) for name, array in inputs.items()} for inputs in found]
    if forms[0] != forms[-1]:
        raise CardError(f"the versions take different inputs: {forms[0]} and {forms[-1]}")
    together = {name: np.concatenate([inputs[name] for inputs in found]) for name in forms[0]}
    rows = (b"".join(array[row].tobytes() for array in together.values()) for row in range(_rows(together)))
    # Versions of one recipe share golden samples; of equal ones the last index is kept.
    distinct = sorted({row: index for index, row in enumerate(rows)}.values())
    return {name: array[distinct] for name, array in together.items()}


def _rows(tensors: Tensors) -> int:
    return len(next(iter(tensors.values())))


def _compute(folder: ModelFolder, version: int, samples: Tensors) -> Tensors:
    """Returns a version's outputs for samples, on the CPU; a single probability becomes two classes'."""
    config = read_config(folder)
    model = find_model_file(folder.version_path(version), model_file_name(config))
    session = Session(model, SessionOptions(device="cpu"), read_reshapes(config))
    resolved = resolve(folder, config, session.inputs, session.outputs, _DEFAULTS)
    outputs = in_batches(session, resolved.batching.max_batch_size)(samples)
    scores = scores_output(resolved.outputs)
    if scores is None or outputs[scores.name].ndim != 2:
        return outputs
    # Without a declaration a single unit is a sigmoid.
    columns = each_class(outputs[scores.name], resolved.output_kind or "sigmoids", len(scores.labels))
    return {**outputs, scores.name: columns}


def _agreement(first: Tensors, second: Tensors) -> Agreement:
    """Compares outputs for the same samples, along the first axis.

    Raises:
        CardError: the versions' outputs differ in name or shape.
    """
    forms = [{name: array.shape[1:] for name, array in outputs.items()} for outputs in (first, second)]
    if forms[0] != forms[1]:
        raise CardError(f"the versions give different outputs: {forms[0]} and {forms[1]}")
    pairs = [(first[name], second[name]) for name in forms[0]]
    largest = max(largest_difference(*pair) for pair in pairs)
    labels = [_same_label(*pair) for pair in pairs if _is_scores(pair[0])]
    return Agreement(_rows(first), int(np.logical_and.reduce(labels).sum()) if labels else None, largest)


def _is_scores(output: Array) -> bool:
    return output.ndim == 2 and output.shape[1] > 1 and output.dtype.kind == "f"


def _same_label(first: Array, second: Array) -> Array:
    """Returns which samples have the same predicted class, bool [N]."""
    return np.asarray(first.argmax(axis=1) == second.argmax(axis=1))
