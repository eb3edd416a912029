"""Validates custom resources: KServe's with the classes of its package, others with @kubernetes-models/*."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from . import tools
from .check import CheckError
from .manifests import Manifest

SCRIPT = Path(__file__).with_name("custom_schemas.mjs")
CRDS = tools.VENV / "crds"
KSERVE_SCRIPT = Path(__file__).with_name("kserve_models.py")
KSERVE_PYTHON = tools.VENV / "kserve" / "bin" / "python"
Validator = Callable[[Sequence[Manifest]], list[list[str]]]


def errors(manifests: Sequence[Manifest]) -> list[list[str]]:
    """Returns, per object, what its operator would refuse or ignore; a missing schema is also an error.

    Raises:
        CheckError: Node, the schemas or KServe's package are missing.
    """
    found: list[list[str]] = [[] for _ in manifests]
    for validator, kserve in ((_kserve, True), (_models, False)):
        places = [i for i, one in enumerate(manifests) if one["apiVersion"].startswith("serving.kserve.io/") is kserve]
        for place, lines in zip(places, _validated(validator, [manifests[i] for i in places]), strict=True):
            found[place] = lines
    return found


def _validated(validator: Validator, manifests: Sequence[Manifest]) -> list[list[str]]:
    return validator(manifests) if manifests else []


def _models(manifests: Sequence[Manifest]) -> list[list[str]]:
    if not (CRDS / "node_modules").is_dir():
        raise CheckError("the schemas of custom resources are missing; run: make deploy-check")
    return _answer("node", SCRIPT, CRDS, manifests=manifests)


def _kserve(manifests: Sequence[Manifest]) -> list[list[str]]:
    return _answer(str(KSERVE_PYTHON), KSERVE_SCRIPT, manifests=manifests)


def _answer(program: str, *arguments: Path, manifests: Sequence[Manifest]) -> list[list[str]]:
    done = tools.run(program, *arguments, stdin=json.dumps(manifests))
    if done.returncode:
        raise CheckError(f"{arguments[0].name} failed: {done.stderr.strip()[-500:]}")
    found: list[list[str]] = json.loads(done.stdout)
    return found
