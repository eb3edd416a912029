"""`make image-check`: accepted and refused images."""

import json
import os
from pathlib import Path

import pytest

from deploy.images import contents


def failures(root: Path) -> set[str]:
    return {result.name for result in contents.check_files(root) if not result.ok}


@pytest.fixture
def image_root(tmp_path: Path) -> Path:
    """A file system in which all is well."""
    packages = tmp_path / "opt/pixelserve/lib/python3.13/site-packages"
    packages.mkdir(parents=True)
    (packages / "pipes.py").touch()
    (tmp_path / "usr/bin").mkdir(parents=True)
    (tmp_path / "usr/bin/python3.13").touch()
    (tmp_path / "bin").symlink_to("usr/bin")
    (tmp_path / "opt/pixelserve/python").symlink_to("/usr/bin/python3.13")
    (tmp_path / "tmp").mkdir()
    (tmp_path / "tmp").chmod(0o1777)
    return tmp_path


@pytest.mark.skipif(os.geteuid() != 0, reason="files of an image belong to root")
def test_a_clean_file_system_passes(image_root: Path) -> None:
    assert failures(image_root) == set()


@pytest.mark.parametrize(
    ("path", "goal"),
    [
        ("usr/bin/gcc", "no compiler"),
        ("opt/pip-23.1.dist-info", "no pip, setuptools or wheel"),
        ("opt/setuptools", "no pip, setuptools or wheel"),
        ("opt/tensorflow", "no TensorFlow, no development tools"),
        ("usr/bin/apt", "no package manager, nothing of apt's"),
        ("var/lib/apt", "no package manager, nothing of apt's"),
        ("usr/bin/dash", "no shell"),
    ],
)
def test_what_must_not_be_in_an_image_is_found(image_root: Path, path: str, goal: str) -> None:
    (image_root / path).parent.mkdir(parents=True, exist_ok=True)
    (image_root / path).touch()
    assert goal in failures(image_root)


@pytest.mark.parametrize(
    ("mode", "goal"),
    [(0o4755, "no setuid or setgid files"), (0o666, "nothing writable by its user, except /tmp")],
)
def test_dangerous_modes_are_found(image_root: Path, mode: int, goal: str) -> None:
    (image_root / "usr/bin/tool").touch()
    (image_root / "usr/bin/tool").chmod(mode)
    assert goal in failures(image_root)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_files_of_the_image_s_user_are_found(image_root: Path) -> None:
    (image_root / "usr/bin/tool").touch()
    os.chown(image_root / "usr/bin/tool", 65532, 65532)
    assert "nothing writable by its user, except /tmp" in failures(image_root)


def test_links_that_lead_nowhere_are_found(image_root: Path) -> None:
    (image_root / "usr/bin/python3").symlink_to("/usr/local/bin/python3")
    assert "no broken links" in failures(image_root)


def config(**changes: object) -> dict[str, object]:
    labels = {f"org.opencontainers.image.{name}": "x" for name in contents.LABELS}
    labels["org.opencontainers.image.created"] = "2026-01-01T00:00:00Z"
    good = {"Size": 250e6, "Created": "2026-01-01T00:00:00Z", "Config": {"User": "65532:65532", "Labels": labels}}
    return good | changes


@pytest.mark.parametrize(
    ("changes", "goal"),
    [
        ({}, None),
        ({"Size": 301e6}, "unpacked size"),
        ({"Config": {"User": "0", "Labels": {}}}, "user"),
        ({"Config": {"Labels": None}}, "OCI labels"),
        ({"Created": "2026-01-02T00:00:00Z"}, "creation time"),
    ],
)
def test_an_image_s_configuration_is_checked(changes: dict[str, object], goal: str | None) -> None:
    failed = {result.name for result in contents.check_config(config(**changes)) if not result.ok}
    assert goal in failed if goal else not failed


def test_the_compressed_size_is_that_of_the_layers(tmp_path: Path) -> None:
    blobs = tmp_path / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    (tmp_path / "index.json").write_text(json.dumps({"manifests": [{"digest": "sha256:m"}]}))
    (blobs / "m").write_text(json.dumps({"layers": [{"size": 1_500_000}, {"size": 500_000}]}))
    assert contents.compressed_mb(tmp_path) == 2.0
