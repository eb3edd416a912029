"""Validates objects against Kubernetes' schemas, strictly: unknown fields are errors.

The schemas come from the package kubernetes-validate, whose own function reads two files per object, 0.1 s. Here, each
file is read once.
"""

import functools
import re
from typing import Any

from jsonschema.exceptions import ValidationError, best_match
from jsonschema.validators import Draft202012Validator
from kubernetes_validate import utils
from referencing import Registry, Resource

from .manifests import Manifest


def covers(api_version: str) -> bool:
    """Returns whether Kubernetes itself serves the API: its group is empty, has no dot, or ends in k8s.io."""
    group = api_version.rpartition("/")[0]
    return "." not in group or (group.endswith(".k8s.io") and group != "gateway.networking.k8s.io")


@functools.cache
def _folder(release: str) -> str:
    exact = [version for version in utils.all_versions() if utils.major_minor(version) == release]
    if not exact:
        raise LookupError(f"kubernetes-validate has no schemas of Kubernetes {release}")
    return f"kubernetes-json-schema/v{exact[-1]}-local-strict"


@functools.cache
def _registry(release: str) -> Registry[Any]:
    definitions = utils.schema_contents(f"{_folder(release)}/_definitions.json", release)
    return Resource.from_contents(definitions) @ Registry()


@functools.cache
def _validator(release: str, api_version: str, kind: str) -> Draft202012Validator:
    group = re.sub(r"^([^./]*)(?:\.[^/]*)?/", r"\1-", api_version)
    try:
        schema = utils.schema_contents(f"{_folder(release)}/{kind.lower()}-{group}.json", release)
    except FileNotFoundError:
        raise LookupError(f"no schema of {api_version} {kind} found") from None
    return Draft202012Validator(schema, registry=_registry(release))


def known(api_version: str, kind: str, release: str) -> bool:
    """Returns whether a release of Kubernetes has the API."""
    try:
        _validator(release, api_version, kind)
    except LookupError:
        return False
    return True


def errors(manifest: Manifest, release: str) -> list[str]:
    """Returns what a release of Kubernetes would refuse in the object, one line each; a missing schema is an error."""
    try:
        validator = _validator(release, manifest["apiVersion"], manifest["kind"])
    except LookupError as error:
        return [str(error)]
    return [_line(error) for error in validator.iter_errors(manifest)]


def _line(error: ValidationError) -> str:
    # With several allowed shapes, the error lists why each does not fit; the deepest reason names the wrong field.
    cause = best_match([error]) or error
    return f"{'.'.join(map(str, cause.absolute_path)) or 'object'}: {cause.message[:200]}"
