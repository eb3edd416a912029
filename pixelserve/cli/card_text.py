"""Formats a model card for people.

Parses the card leniently, as plain JSON: the server may be newer, and the client's installation does not include
pydantic, which `pixelserve.card` needs.
"""

import json
from collections.abc import Mapping
from typing import Any

from ..interval import wilson

Facts = list[tuple[str, str]]

_SAME = "same settings, without these samples, which this model learned too"


def parse(card_json: str) -> dict[str, Any]:
    """Returns a card's fields; empty if the card is missing or invalid."""
    try:
        card = json.loads(card_json or "{}")
    except ValueError:
        return {}
    return card if isinstance(card, dict) else {}


def accuracy(card: Mapping[str, Any]) -> str:
    """Returns the card's accuracy as a percentage, or empty."""
    return _percent(_part(_part(card, "evaluation"), "metrics").get("accuracy"))


def facts(card: Mapping[str, Any]) -> Facts:
    """Returns a card's figures as labels and values, without missing ones."""
    found = [("task", _text(card.get("task")))]
    found += _origin(card) + _figures(_part(card, "evaluation")) + _calibration(_part(card, "calibration"))
    found += _quantization(_part(card, "quantization"))
    found += [("parity", _parity(entry)) for entry in card.get("parity") or [] if isinstance(entry, dict)]
    found += _file(card)
    return [(label, value) for label, value in found if value]


def _origin(card: Mapping[str, Any]) -> Facts:
    data, reference = _part(card, "dataset"), _part(card, "reference")
    # Golden outputs come from ONNX Runtime if there is nothing else to compare with, but it did not train the model.
    reference = _part(_part(card, "quantization"), "original") or reference
    if reference.get("framework") == "onnxruntime":
        reference = {}
    return [
        ("data set", _text(data.get("name"))),
        ("data SHA-256", _text(data.get("sha256"))),
        ("data note", _text(data.get("note"))),
        ("trained with", f"{_text(reference.get('framework'))} {_text(reference.get('version'))}".strip()),
        ("exported for", _text(card.get("picture"))),
        ("recipe", _text(card.get("recipe"))),
        ("seed", _text(card.get("seed"))),
        ("parameters", _number(card["parameters"]) if card.get("parameters") else ""),
    ]


def _figures(evaluation: Mapping[str, Any]) -> Facts:
    measured_on = f"{_number(evaluation.get('samples'))} samples ({_text(evaluation.get('split'))})"
    found = []
    for name, value in _part(evaluation, "metrics").items():
        if name == "accuracy":
            found.append((name, f"{_percent(value)}{_interval(evaluation)} on {measured_on}"))
        else:
            found.append((name, _figure(value)))
    if choice := _part(evaluation, "choice_run"):
        found.append(("measured by", f"{_text(choice.get('run'))} (seed {_text(choice.get('seed'))}): {_SAME}"))
    recall = _part(evaluation, "per_class_recall")
    if recall:
        worst = min(recall, key=lambda label: recall[label])
        found.append(("lowest recall", f"{_percent(recall[worst])} ({worst})"))
    return found


def _calibration(calibration: Mapping[str, Any]) -> Facts:
    error = calibration.get("expected_calibration_error")
    if error is None:
        return []
    temperature = calibration.get("temperature")
    scaled = f", temperature {_figure(temperature)}" if temperature is not None else ""
    return [("ECE", f"{_figure(error)} over {_number(calibration.get('bins'))} bins{scaled}")]


def _quantization(quantization: Mapping[str, Any]) -> Facts:
    if not quantization:
        return []
    precision = _text(quantization.get("precision"))
    # float16 has no ranges to find, only values that must fit.
    how = "checked" if precision == "float16" else "calibrated"
    where = f" ({_text(quantization.get('compared_split'))})" if quantization.get("compared_split") else ""
    had = f"float32 accuracy {_percent(quantization.get('float32_accuracy'))}{where}"
    changed = f"{_number(quantization.get('changed_labels'))} labels changed"
    shares = [f"{_percent(quantization.get('relative_bytes'))} of its size"]
    for size, share in _part(quantization, "relative_time").items():
        shares.append(f"{_percent(share)} of its time in batches of {size}")
    return [
        ("precision", f"{precision}, {how} on {_number(quantization.get('calibration_samples'))} samples"),
        ("against float32", ", ".join([had, changed, *shares])),
    ]


def _parity(entry: Mapping[str, Any]) -> str:
    where = f"{_text(entry.get('precision'))} on {_text(entry.get('provider'))}"
    tolerance = f"tolerance {_figure(entry.get('tolerance'))}"
    if entry.get("max_abs_error") is None:
        return f"{where}: {tolerance}, not measured"
    measured = f"at most {_figure(entry['max_abs_error'])} on {_number(entry.get('samples'))} samples"
    return f"{where}: differs by {measured}, {tolerance}"


def _file(card: Mapping[str, Any]) -> Facts:
    versions = ", ".join(f"{name} {_text(version)}" for name, version in _part(card, "versions").items())
    return [
        ("model SHA-256", _text(card.get("sha256"))),
        ("exported", _text(card.get("created"))),
        ("made with", versions),
    ]


def _part(card: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = card.get(name)
    return part if isinstance(part, dict) else {}


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _number(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else "?" if value is None else str(value)


def _percent(value: object) -> str:
    return f"{value:.2%}" if isinstance(value, int | float) else ""


def _interval(evaluation: Mapping[str, Any]) -> str:
    """Returns the 95 % interval of a card's accuracy in words, or empty."""
    accuracy, samples = _part(evaluation, "metrics").get("accuracy"), evaluation.get("samples")
    if evaluation.get("split") == "training" or not isinstance(accuracy, int | float) or not isinstance(samples, int):
        return ""
    if not 0 <= accuracy <= 1 or samples < 1:
        return ""
    low, high = wilson(round(accuracy * samples), samples)
    return f" (95 % interval {_percent(low)} to {_percent(high)})"


def _figure(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else "?"
