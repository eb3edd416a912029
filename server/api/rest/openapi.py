"""The HTTP API's description (openapi.yaml, OpenAPI 3.1), with examples that work unchanged."""

import json
from functools import cache
from importlib import resources
from typing import Any

from .examples import Served

Document = dict[str, Any]
"""A JSON object."""

_MODEL, _VERSION = ({"$ref": f"#/components/parameters/{name}"} for name in ("model", "version"))
_OF_MODELS = ("/v1/models/{model}", "/v2/models/{model}")
_IN_URLS = "/models/<model>"


def document(version: str, served: Served | None = None) -> Document:
    """Returns the description.

    Args:
        version: the server's version.
        served: values for the examples; None: the default port and a committed model.
    """
    served = served or Served()
    text = _template().replace('"<inputs>"', json.dumps(served.inputs))
    names = {name: getattr(served, name) for name in ("base", "model", "version", "output")}
    for name, value in {**names, "server": version}.items():
        text = text.replace(f"<{name}>", json.dumps(value)[1:-1])
    filled: Document = json.loads(text)
    return filled


@cache
def _template() -> str:
    # Imported by the first request for the description.
    import yaml

    # libyaml's parser takes 3 ms, Python's 26, which would block all calls.
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    text = resources.files(__package__).joinpath("openapi.yaml").read_text("utf-8")
    description = yaml.load(text, loader)  # noqa: S506  both are safe loaders
    paths = description["paths"]
    for path in [each for each in paths if each.startswith(_OF_MODELS)]:
        of_version = path.replace("{model}", "{model}/versions/{version}", 1)
        paths[of_version] = {method: _of_version(operation) for method, operation in paths[path].items()}
    return json.dumps(description)


def _of_version(operation: Document) -> Document:
    samples = [
        {**sample, "source": sample["source"].replace(_IN_URLS, f"{_IN_URLS}/versions/<version>")}
        for sample in operation["x-codeSamples"]
    ]
    others = [each for each in operation["parameters"] if each != _MODEL]
    return {**operation, "parameters": [_MODEL, _VERSION, *others], "x-codeSamples": samples}
