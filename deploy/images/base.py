"""The base image's digest, read from its registry."""

import re
import shutil
import subprocess
from collections.abc import Callable

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_TIMEOUT_S = 30


def pinned(base: str, resolve: Callable[[str], str] | None = None) -> tuple[str, str]:
    """Returns the base pinned to its digest, and the digest; the base unchanged and "" if no registry answers.

    The digest replaces the tag, because podman refuses both together.
    """
    if "@" in base:
        return base, base.partition("@")[2]
    if base.startswith("localhost/"):
        return base, ""
    found = _DIGEST.search((resolve or _ask_registry)(base))
    return (f"{without_tag(base)}@{found[0]}", found[0]) if found else (base, "")


def without_tag(reference: str) -> str:
    """Returns the reference without its tag; a registry's port is not a tag."""
    folder, slash, name = reference.rpartition("/")
    return folder + slash + name.partition(":")[0]


def _ask_registry(base: str) -> str:
    if shutil.which("skopeo"):
        return _output(["skopeo", "inspect", "--no-tags", "--format", "{{.Digest}}", f"docker://{base}"])
    if shutil.which("docker"):
        return _output(["docker", "buildx", "imagetools", "inspect", base, "--format", "{{.Manifest.Digest}}"])
    return ""


def _output(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return ""
    return done.stdout if done.returncode == 0 else ""
