"""What a built image must and must not contain."""

import json
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..results import Result

MAX_MB = 300
USER = "65532:65532"
# File and folder names, without suffixes such as -3.13 or .dist-info.
FORBIDDEN = {
    "no compiler": {"as", "cc", "clang", "g++", "gcc", "ld", "make"},
    "no pip, setuptools or wheel": {"ensurepip", "pip", "setuptools", "wheel"},
    "no TensorFlow, no development tools": {"keras", "mypy", "pytest", "tensorflow", "torch"},
    "no package manager, nothing of apt's": {"apt", "apt-get", "dpkg-deb", "dpkg-query", "perl"},
    "no shell": {"ash", "bash", "busybox", "dash", "sh", "zsh"},
}
LABELS = ("title", "description", "licenses", "version", "revision", "created", "base.name")


def check_config(config: Mapping[str, Any]) -> Iterator[Result]:
    """Checks the image's configuration, as shown by `podman image inspect`."""
    size_mb = config["Size"] / 1e6
    yield Result("unpacked size", f"< {MAX_MB} MB", f"{size_mb:.0f} MB", size_mb < MAX_MB)
    user = config["Config"].get("User", "")
    yield Result("user", USER, user, user == USER)
    labels = config["Config"].get("Labels") or {}
    missing = [name for name in LABELS if not labels.get(f"org.opencontainers.image.{name}")]
    yield Result("OCI labels", ", ".join(LABELS), f"missing: {', '.join(missing)}" if missing else "all", not missing)
    created, label = str(config["Created"])[:19], str(labels.get("org.opencontainers.image.created"))[:19]
    yield Result("creation time", "the label's, from SOURCE_DATE_EPOCH", created, created == label)


def check_files(root: Path) -> Iterator[Result]:
    """Checks the names, owners and modes of the image's files."""
    paths = [Path(folder, name) for folder, folders, files in os.walk(root) for name in (*folders, *files)]
    for goal, names in FORBIDDEN.items():
        found = sorted({str(path.relative_to(root)) for path in paths if _stem(path.name) in names})
        yield _none(goal, found)
    modes = {path.relative_to(root): path.lstat() for path in paths if not path.is_symlink()}
    special = stat.S_ISUID | stat.S_ISGID
    yield _none("no setuid or setgid files", [str(path) for path, found in modes.items() if found.st_mode & special])
    writable = [str(path) for path, found in modes.items() if found.st_uid or found.st_mode & stat.S_IWOTH]
    yield _none("nothing writable by its user, except /tmp", [path for path in writable if path != "tmp"])
    yield _none("no broken links", _broken_links(root, paths))


def _stem(name: str) -> str:
    return name.split("-")[0].split(".")[0] if name.endswith((".dist-info", ".so")) else name


def _broken_links(root: Path, paths: list[Path]) -> list[str]:
    def target(path: Path) -> Path:
        link = path.readlink()
        return root / link.relative_to("/") if link.is_absolute() else path.parent / link

    return [str(path.relative_to(root)) for path in paths if path.is_symlink() and not os.path.lexists(target(path))]


def _none(goal: str, found: list[str]) -> Result:
    shown = ", ".join(found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")
    return Result(goal, "none", shown or "none", not found)


def compressed_mb(layout: Path) -> float:
    """Returns the size of an OCI layout's compressed layers, in MB."""

    def blob(digest: str) -> Any:
        return json.loads((layout / "blobs" / "sha256" / digest.removeprefix("sha256:")).read_text())

    manifest = blob(json.loads((layout / "index.json").read_text())["manifests"][0]["digest"])
    return float(sum(layer["size"] for layer in manifest["layers"])) / 1e6
