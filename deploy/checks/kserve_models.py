"""Checks KServe's objects against the classes that the package `kserve` generates from KServe's API.

Runs with the Python of .venv/kserve, which has that package. Reads a JSON list of objects from stdin and writes a list
with the errors of each.
"""

import json
import re
import sys
from collections.abc import Iterator
from typing import Any

from kserve import models
from kubernetes import client

KINDS = {
    "serving.kserve.io/v1alpha1": "V1alpha1",
    "serving.kserve.io/v1beta1": "V1beta1",
}
PLAIN: dict[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "bool": (bool,), "float": (int, float)}


def errors(manifest: dict[str, Any]) -> list[str]:
    """Returns an object's unknown and missing fields."""
    prefix = KINDS.get(manifest["apiVersion"])
    name = f"{prefix}{manifest['kind']}"
    if prefix is None or not hasattr(models, name):
        return [f"KServe has no {manifest['apiVersion']} {manifest['kind']}"]
    return list(_value(manifest, name, ""))


def _value(value: Any, kind: str, place: str) -> Iterator[str]:
    if inner := re.fullmatch(r"list\[(.+)\]", kind):
        if not isinstance(value, list):
            yield f"{place}: expected a list"
            return
        for index, item in enumerate(value):
            yield from _value(item, inner[1], f"{place}.{index}")
    elif inner := re.fullmatch(r"dict\(str, (.+)\)", kind):
        # Quantities may be numbers, but the class declares text.
        if not isinstance(value, dict):
            yield f"{place}: expected a map"
        elif inner[1] not in PLAIN:
            for key, item in value.items():
                yield from _value(item, inner[1], f"{place}.{key}")
    elif kind in PLAIN:
        if not isinstance(value, PLAIN[kind]) or (kind == "int" and isinstance(value, bool)):
            yield f"{place}: expected {kind}, got {json.dumps(value)[:60]}"
    elif known := getattr(models, kind, None) or getattr(client, kind, None):
        yield from _object(value, known, place)


def _object(value: Any, known: Any, place: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{place or 'object'}: expected an object, got {json.dumps(value)[:60]}"
        return
    fields = {field: attribute for attribute, field in known.attribute_map.items()}
    for field in value.keys() - fields.keys():
        yield f"{place or 'object'}: unknown field {field}"
    present = {field: content for field, content in value.items() if field in fields}
    if known.__module__.startswith("kserve."):
        yield from _missing(known, {fields[field]: content for field, content in present.items()}, place)
    for field, content in present.items():
        yield from _value(content, known.openapi_types[fields[field]], f"{place}.{field}".lstrip("."))


def _missing(known: Any, attributes: dict[str, Any], place: str) -> Iterator[str]:
    try:
        known(**attributes)
    except ValueError as error:
        yield f"{place or 'object'}: {error}"


if __name__ == "__main__":
    json.dump([errors(manifest) for manifest in json.load(sys.stdin)], sys.stdout)
