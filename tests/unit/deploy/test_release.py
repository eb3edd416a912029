"""The checks of a release, on faulty archives."""

import io
import json
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from deploy.release import __main__ as release
from deploy.release import archives, installed, sbom

TOP = f"pixelserve-{archives.PROJECT['project']['version']}"
LICENCES = ("LICENSE", *(f"server/page/vendor/{name}.LICENSE.txt" for name in ("htm", "preact", "uplot")))
METADATA = "License-Expression: Apache-2.0 AND MIT\n" + "".join(f"License-File: {name}\n" for name in LICENCES)


def failures(
    folder: Path, sdist: set[str], wheel: set[str], *, metadata: str = METADATA, padding: int = 0
) -> dict[str, str]:
    """Returns the problems of archives of these files, by check."""
    folder.mkdir(exist_ok=True)
    sdist_path, wheel_path = folder / f"{TOP}.tar.gz", folder / f"{TOP}-py3-none-any.whl"
    with tarfile.open(sdist_path, "w:gz") as archive:
        for name in sdist:
            archive.addfile(tarfile.TarInfo(f"{TOP}/{name}"), io.BytesIO())
    with zipfile.ZipFile(wheel_path, "w") as archive:
        for name in wheel:
            is_metadata = name == f"{TOP}.dist-info/METADATA"
            archive.writestr(name, metadata if is_metadata else "x" * (padding if name.endswith("py.typed") else 0))
    return {each.name: each.found for each in archives.check(sdist_path, wheel_path) if not each.ok}


@pytest.fixture(scope="module")
def sdist() -> set[str]:
    return {*archives.tracked(), "PKG-INFO", "setup.cfg", "pixelserve.egg-info/SOURCES.txt"}


@pytest.fixture(scope="module")
def wheel() -> set[str]:
    return archives.wheel_names(TOP, archives.tracked())


def test_archives_of_the_projects_files_pass(tmp_path: Path, sdist: set[str], wheel: set[str]) -> None:
    assert failures(tmp_path, sdist, wheel) == {}
    needed = {"pixelserve/py.typed", "pixelserve/oip/inference_pb2.pyi", "pixelserve_server/page/index.html"}
    assert needed <= wheel


@pytest.mark.parametrize("name", ["pixelserve/py.typed", "pixelserve_server/page/app.js", f"{TOP}.dist-info/RECORD"])
def test_a_file_that_is_missing_is_named(tmp_path: Path, sdist: set[str], wheel: set[str], name: str) -> None:
    assert f"missing: {name}" in failures(tmp_path, sdist, wheel - {name})["files of the wheel"]


@pytest.mark.parametrize("name", ["pixelserve/notes.txt", "tests/conftest.py", "build/lib/pixelserve/card.py"])
def test_a_stray_file_is_named(tmp_path: Path, sdist: set[str], wheel: set[str], name: str) -> None:
    found = failures(tmp_path, sdist | {name}, wheel | {name})
    assert f"stray: {name}" in found["files of the sdist"]
    assert f"stray: {name}" in found["files of the wheel"]


def test_a_test_among_the_packages_is_named(tmp_path: Path, sdist: set[str], wheel: set[str]) -> None:
    assert failures(tmp_path, sdist | {"server/test_app.py"}, wheel)["no tests"] == "server/test_app.py"


def test_an_archive_that_has_grown_is_refused(tmp_path: Path, sdist: set[str], wheel: set[str]) -> None:
    assert list(failures(tmp_path, sdist, wheel, padding=archives.MAX_KIB * 1024)) == [
        f"size of {TOP}-py3-none-any.whl"
    ]


def test_a_bundled_library_without_its_licence_is_named(tmp_path: Path, sdist: set[str], wheel: set[str]) -> None:
    metadata = METADATA.replace(" AND MIT", "").replace("License-File: server/page/vendor/htm.LICENSE.txt\n", "")
    assert failures(tmp_path, sdist, wheel, metadata=metadata) == {
        "licence of htm": "Apache-2.0, no text",
        "licence of preact": "not in the metadata, server/page/vendor/preact.LICENSE.txt",
        "licence of uplot": "not in the metadata, server/page/vendor/uplot.LICENSE.txt",
    }


OWN: dict[str, Any] = {"name": "pixelserve", "version": "0.2.0", "license_expression": "Apache-2.0 AND MIT"}


def test_the_sbom_names_what_is_bundled_and_what_is_installed(tmp_path: Path) -> None:
    old = {"name": "Old", "version": "1", "classifier": ["License :: OSI Approved :: BSD License"]}
    assert sbom.write(tmp_path / "sbom.json", [old, OWN]).ok
    document = json.loads((tmp_path / "sbom.json").read_text())
    assert document["metadata"]["component"]["purl"] == "pkg:pypi/pixelserve@0.2.0"
    licences = {each["purl"]: each["licenses"] for each in document["components"]}
    assert licences == {
        "pkg:pypi/old@1": [{"license": {"name": "BSD License"}}],
        "pkg:npm/htm@3.1.1": [{"expression": "Apache-2.0 AND MIT"}],
        "pkg:npm/uplot@1.6.32": [{"expression": "MIT"}],
    }


def test_a_component_without_a_licence_is_named(tmp_path: Path) -> None:
    result = sbom.write(tmp_path / "sbom.json", [OWN, {"name": "silent", "version": "1"}])
    assert (result.ok, "without a licence: silent" in result.found) == (False, True)


def test_a_python_that_is_not_installed_is_reported_and_fails_only_if_all_are_required(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(installed.shutil, "which", lambda name: None)
    monkeypatch.setattr(archives, "build", lambda source, out: (out, out))
    monkeypatch.setattr(archives, "check", lambda sdist, wheel: iter(()))
    found = list(release.check(tmp_path, only_build=False, require_all=False))
    assert [(each.name, each.found, each.ok) for each in found] == [
        (f"Python {version}", "not tried: not installed", True) for version in release.SUPPORTED
    ]
    assert not any(each.ok for each in release.check(tmp_path, only_build=False, require_all=True))
    assert list(release.check(tmp_path, only_build=True, require_all=True)) == []


def test_a_shim_without_a_python_is_not_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As version managers leave them."""
    shim = tmp_path / "python3.12"
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert installed.find("3.12") is None
