"""The release's SBOM as CycloneDX: bundled libraries and installed distributions."""

import json
from pathlib import Path
from typing import Any

from ..results import Result
from .archives import PROJECT, ROOT, VENDOR


def write(path: Path, distributions: list[dict[str, Any]]) -> Result:
    """Writes the SBOM of the project with its bundled libraries and an environment's distributions.

    Args:
        path: the file to write.
        distributions: core metadata of each, including the project, as returned by `installed.distributions`.
    """
    document = of(distributions)
    path.write_text(json.dumps(document, indent=2) + "\n")
    without = [each["name"] for each in document["components"] if not each["licenses"]]
    found = f"{len(document['components'])} components in {path.name}"
    found += f"; without a licence: {', '.join(without)}" if without else ""
    return Result("SBOM", "a licence for each component", found, not without)


def of(distributions: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns the SBOM as a CycloneDX 1.6 document."""
    project = PROJECT["project"]["name"]
    own = next(each for each in distributions if each["name"] == project)
    others = sorted((each for each in distributions if each["name"] != project), key=lambda each: str(each["name"]))
    bundled = json.loads((ROOT / VENDOR / "vendor.json").read_text())
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {**_distribution(own), "type": "application"}},
        "components": [*map(_bundled, bundled), *map(_distribution, others)],
    }


def _distribution(metadata: dict[str, Any]) -> dict[str, Any]:
    purl = f"pkg:pypi/{metadata['name'].lower()}@{metadata['version']}"
    return _component(metadata["name"], metadata["version"], purl, _licences(metadata))


def _bundled(library: dict[str, Any]) -> dict[str, Any]:
    licence = " AND ".join(sorted(set(library["licences"].values())))
    purl = f"pkg:npm/{library['name']}@{library['version']}"
    component = _component(library["name"], library["version"], purl, [{"expression": licence}])
    hashes = [
        {"alg": "SHA-256", "content": digest} for name, digest in library["files"].items() if name.endswith(".js")
    ]
    return {**component, "description": f"bundled: {library['contents']}", "hashes": hashes}


def _component(name: str, version: str, purl: str, licences: list[dict[str, Any]]) -> dict[str, Any]:
    return {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl, "licenses": licences}


def _licences(metadata: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns the SPDX expression, or for older metadata, the text of its classifier or field."""
    if expression := metadata.get("license_expression"):
        return [{"expression": expression}]
    classifiers = [
        each.rpartition(" :: ")[2] for each in metadata.get("classifier") or () if each.startswith("License ::")
    ]
    words = classifiers or [str(metadata.get("license") or "").partition("\n")[0]]
    return [{"license": {"name": words[0]}}] if words[0] else []
