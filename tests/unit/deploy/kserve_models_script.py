"""Checks manifests against KServe's own Python models: unknown fields, missing ones and wrong types. Prints JSON.

Runs in KServe's environment, with nothing of ours in it. Takes manifests as JSON, an array, on stdin.
"""

import json
import re
import sys
from collections.abc import Iterator
from typing import Any

import kserve
from kubernetes import client

_ITEMS = re.compile(r"[Ll]ist\[(.+)\]|[Dd]ict[(\[]str, (.+)[)\]]")
_PLAIN = {"str": str, "int": int, "bool": bool, "float": float}


def problems(kind: str, value: Any, place: str) -> Iterator[str]:
    if value is None or kind == "object":
        return
    if kind in _PLAIN:
        if not isinstance(value, _PLAIN[kind]):
            yield f"{place} is {value!r}; expected {kind}"
        return
    if items := _ITEMS.fullmatch(kind):
        entries = enumerate(value) if items[1] else value.items()
        for key, entry in entries:
            yield from problems(items[1] or items[2], entry, f"{place}[{key}]")
        return
    model = getattr(kserve, kind, None) or getattr(client, kind.removeprefix("K8sIoApiCoreV1"), None)
    model = model or getattr(client, kind, None)
    if model is None:
        yield f"{place}: no model {kind}"
        return
    yield from _object(model, value, place)


def _object(model: Any, value: Any, place: str) -> Iterator[str]:
    names = {json_name: name for name, json_name in model.attribute_map.items()}
    for key, entry in value.items():
        if key not in names:
            yield f"{place}.{key}: no such field"
        else:
            yield from problems(model.openapi_types[names[key]], entry, f"{place}.{key}")
    try:
        # Required fields are those that the constructor refuses to leave out.
        model(**{names[key]: entry for key, entry in value.items() if key in names})
    except ValueError as error:
        yield f"{place}: {error}"


KINDS = {"ClusterServingRuntime": "V1alpha1ClusterServingRuntime", "InferenceService": "V1beta1InferenceService"}
manifests = json.load(sys.stdin)
print(json.dumps([list(problems(KINDS[each["kind"]], each, each["kind"])) for each in manifests]))
