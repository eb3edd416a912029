"""Kubernetes objects as text and as Python values."""

from collections.abc import Iterator
from typing import Any

import yaml

Manifest = dict[str, Any]
# Two cases in which YAML 1.1 silently differs from what a manifest's author expects.
VALUE_TAG = "tag:yaml.org,2002:value"


class ManifestError(ValueError):
    """The text is not a list of Kubernetes objects."""


class _Loader(yaml.CSafeLoader):
    """Refuses repeated keys, as clusters do, and reads a lone `=` as text, as Go's parser does."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key) for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        if repeated := {key for key in keys if keys.count(key) > 1}:
            where = f"line {node.start_mark.line + 1}"
            raise ManifestError(f"{where}: repeated keys: {', '.join(sorted(map(str, repeated)))}; keep one of each")
        return super().construct_mapping(node, deep)


_Loader.add_constructor(VALUE_TAG, lambda loader, node: node.value)


def load(text: str) -> list[Manifest]:
    """Returns the objects in a stream of YAML documents, unpacking objects of kind List.

    Raises:
        ManifestError: not YAML, or a document is not a Kubernetes object.
    """
    try:
        documents = [document for document in yaml.load_all(text, Loader=_Loader) if document is not None]
    except yaml.YAMLError as error:
        raise ManifestError(f"not YAML: {error}") from error
    return [manifest for document in documents for manifest in _unpacked(document)]


def _unpacked(document: Any) -> Iterator[Manifest]:
    if not isinstance(document, dict) or not {"apiVersion", "kind"} <= document.keys():
        raise ManifestError(f"expected an object with apiVersion and kind, got: {str(document)[:80]}")
    if document["kind"] == "List":
        for item in document.get("items") or []:
            yield from _unpacked(item)
    else:
        yield document


def label(manifest: Manifest) -> str:
    """Returns `Kind/name`."""
    return f"{manifest['kind']}/{(manifest.get('metadata') or {}).get('name', '?')}"
