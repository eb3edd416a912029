"""The image builder: docker, podman or buildah, whichever works on this machine."""

import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ENGINES = ("docker", "podman", "buildah")
_NONE_WORKS = (
    "no program that builds images works here:\n{}\nInstall one (Debian: apt install podman), or start Docker."
)


class ImageError(Exception):
    """An image cannot be built, described or signed here; the message says what to do."""


@dataclass(frozen=True)
class Recipe:
    """The inputs of an image's build."""

    dockerfile: Path
    """Its Dockerfile."""
    context: Path
    """The build context."""
    tag: str
    """The image's name and tag."""
    arguments: Mapping[str, str]
    """Values of the Dockerfile's ARGs."""
    labels: Mapping[str, str]
    """Additional labels."""
    secrets: Mapping[str, Path]
    """Secret files for single RUN lines, not in the image, by id."""
    epoch_s: int
    """Timestamp of all files in the image, in seconds since 1970, for reproducible images."""


def choose(
    asked: str = "",
    *,
    find: Callable[[str], str | None] = shutil.which,
    probe: Callable[[str], str] | None = None,
) -> str:
    """Returns the requested engine, or the first that works.

    Args:
        asked: an engine's name; empty: the first of ENGINES that works.
        find: returns a program's path, or None if it is not installed.
        probe: returns why an installed engine does not work, or empty.

    Raises:
        ImageError: none works.
    """
    probe = probe or _trouble
    reasons = []
    for name in (asked,) if asked else ENGINES:
        reason = probe(name) if find(name) else "not installed"
        if not reason:
            return name
        reasons.append(f"  {name}: {reason}")
    raise ImageError(_NONE_WORKS.format("\n".join(reasons)))


def _trouble(engine: str) -> str:
    # `docker` is often only the client, without an engine; `info` needs the engine.
    done = subprocess.run([engine, "info"], capture_output=True, text=True)
    lines = (done.stderr or done.stdout).strip().splitlines()
    return "" if done.returncode == 0 else (lines or [f"`{engine} info` failed"])[-1]


def build_command(engine: str, recipe: Recipe, id_file: Path) -> list[str]:
    """Returns the command that builds the image and writes its id to a file."""
    command = [engine, "build", "--file", str(recipe.dockerfile), "--tag", recipe.tag, "--iidfile", str(id_file)]
    for name, value in recipe.arguments.items():
        command += ["--build-arg", f"{name}={value}"]
    for name, value in recipe.labels.items():
        command += ["--label", f"{name}={value}"]
    for name, path in recipe.secrets.items():
        command += ["--secret", f"id={name},src={path}"]
    if engine == "docker":
        command += ["--build-arg", f"SOURCE_DATE_EPOCH={recipe.epoch_s}"]
    else:
        # The OCI format has no HEALTHCHECK. The host's network needs no bridge, which containers may rarely create.
        command += ["--format", "docker", "--layers", "--network", "host", "--timestamp", str(recipe.epoch_s)]
    return [*command, str(recipe.context)]


def save_command(engine: str, image: str, archive: Path) -> list[str]:
    """Returns the command that writes an image as a docker-archive."""
    if engine == "buildah":
        return [engine, "push", image, f"docker-archive:{archive}:{image}"]
    return [engine, "save", "--output", str(archive), image]


def run(command: Sequence[str], *, environment: Mapping[str, str] | None = None) -> str:
    """Runs a command and returns its output.

    Raises:
        ImageError: it failed; the message ends with the last lines of its output.
    """
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        last = "\n".join((done.stderr.strip() or done.stdout.strip()).splitlines()[-15:])
        raise ImageError(f"`{' '.join(command[:3])} …` failed with exit code {done.returncode}:\n{last}")
    return done.stdout
