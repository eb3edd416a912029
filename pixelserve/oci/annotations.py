"""Annotations of an image's manifests and index, which describe the model without unpacking the image."""

import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime

from pixelserve.card import GOLDEN_FILE, Card

from .contents import ROOT, Contents

MODEL = "pixelserve.model"
"""The model's name."""
VERSION = "pixelserve.version"
"""The version's number."""
CREATED = "org.opencontainers.image.created"
"""When the version was exported."""
VALUE_BYTES = 64 << 10
"""Maximum bytes of a value. Longer ones are omitted: an index and its manifests must stay far below 4 MiB."""


def annotations(contents: Contents) -> dict[str, str]:
    """Returns the annotations of a version's image."""
    found = {
        "org.opencontainers.image.title": contents.model,
        "org.opencontainers.image.version": str(contents.version),
        MODEL: contents.model,
        VERSION: str(contents.version),
        **dict(_evidence(contents)),
    }
    return {key: value for key, value in found.items() if value and len(value.encode()) <= VALUE_BYTES}


def _evidence(contents: Contents) -> Iterator[tuple[str, str]]:
    if contents.labels:
        yield "pixelserve.labels", _json(contents.labels)
    if contents.card is None:
        return
    yield from _facts(contents.card)
    yield "pixelserve.card", contents.card_json.decode()
    yield "pixelserve.card.sha256", hashlib.sha256(contents.card_json).hexdigest()
    if contents.golden is not None:
        file = contents.files[ROOT / contents.model / str(contents.version) / GOLDEN_FILE]
        content = file if isinstance(file, bytes) else file.read_bytes()
        yield "pixelserve.golden.sha256", hashlib.sha256(content).hexdigest()
        yield "pixelserve.golden.samples", str(contents.golden.samples)
        yield "pixelserve.golden.inputs", _json(sorted(contents.golden.inputs))
        yield "pixelserve.golden.outputs", _json(sorted(contents.golden.outputs))


def _facts(card: Card) -> Iterator[tuple[str, str]]:
    yield CREATED, _rfc3339(card.created)
    yield "pixelserve.sha256", card.sha256
    yield "pixelserve.task", card.task
    yield "pixelserve.output-kind", card.output_kind or ""
    yield "pixelserve.precision", card.quantization.precision if card.quantization else "float32"
    if card.dataset:
        yield "pixelserve.dataset", card.dataset.name
        yield "pixelserve.dataset.sha256", card.dataset.sha256
    if card.evaluation:
        yield "pixelserve.evaluation.split", card.evaluation.split
        yield "pixelserve.evaluation.samples", str(card.evaluation.samples)
        yield "pixelserve.evaluation.metrics", _json(card.evaluation.metrics)
        if "accuracy" in card.evaluation.metrics:
            yield "pixelserve.accuracy", repr(card.evaluation.metrics["accuracy"])


def _rfc3339(time: str) -> str:
    """Returns a time as the specification requires; empty if invalid, because readers would refuse the image."""
    try:
        parsed = datetime.fromisoformat(time)
    except ValueError:
        return ""
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).isoformat()


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
