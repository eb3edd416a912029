"""Validates custom resources against the schemas of @kubernetes-models/*."""

import json
from collections.abc import Sequence
from pathlib import Path

from . import tools
from .gate import CheckError
from .manifests import Manifest

SCRIPT = Path(__file__).with_name("custom_schemas.mjs")
CRDS = tools.VENV / "crds"


def errors(manifests: Sequence[Manifest]) -> list[list[str]]:
    """Returns, for each object, what its operator would refuse or ignore; an object without a schema has an error too.

    Raises:
        CheckError: Node or the schemas are missing.
    """
    if not manifests:
        return []
    if not (CRDS / "node_modules").is_dir():
        raise CheckError("the schemas of custom resources are missing; run: make deploy-check")
    done = tools.run("node", SCRIPT, CRDS, stdin=json.dumps(manifests))
    if done.returncode:
        raise CheckError(f"{SCRIPT.name} failed: {done.stderr.strip()}")
    found: list[list[str]] = json.loads(done.stdout)
    return found
