"""Builds an image from its Dockerfile."""

import os
import subprocess
import tempfile
import tomllib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from . import base, engine, pip_settings

ROOT = Path(__file__).resolve().parent.parent.parent
VARIANTS = ("server", "server-cuda", "training")
BASE = "debian:trixie-slim"


def build(
    variant: str,
    image: str = "",
    base_image: str = "",
    with_engine: str = "",
    requirements: str = "",
    *,
    announce: Callable[[str], None] = print,
) -> None:
    """Builds an image.

    Args:
        variant: one of VARIANTS.
        image: the image's name and tag; empty: pixelserve-VARIANT and the project's version.
        base_image: the image with Debian's packages; empty: BASE.
        with_engine: docker, podman or buildah; empty: the first that works.
        requirements: a file of requirements/, instead of the variant's own.
        announce: receives lines for the user: base, size and id of the image.

    Raises:
        ImageError: it could not be built.
    """
    chosen = engine.choose(with_engine)
    with tempfile.TemporaryDirectory(prefix="pixelserve-image-") as folder:
        recipe = make_recipe(variant, image, base_image or BASE, requirements, Path(folder))
        announce(f"building {recipe.tag} with {chosen}; base: {recipe.arguments['BASE']}{_unpinned(recipe)}")
        id_file = Path(folder) / "id"
        # BuildKit supports secrets and HEALTHCHECK's long form; old clients must enable it.
        engine.run(engine.build_command(chosen, recipe, id_file), environment={**os.environ, "DOCKER_BUILDKIT": "1"})
        announce(f"built {recipe.tag}, {image_size(chosen, recipe.tag)}, image id {id_file.read_text().strip()}")


def _unpinned(recipe: engine.Recipe) -> str:
    return "" if "@" in recipe.arguments["BASE"] else ", whose digest is unknown: it is local, or no registry answered"


def make_recipe(variant: str, image: str, base_image: str, requirements: str, folder: Path) -> engine.Recipe:
    """Returns the image's recipe.

    Args:
        variant: one of VARIANTS.
        image: as in `build`.
        base_image: the image with Debian's packages.
        requirements: as in `build`.
        folder: an empty folder for temporary files of the build.

    Raises:
        ImageError: requirements/ has no such file.
    """
    if requirements and not (ROOT / "requirements" / requirements).is_file():
        raise engine.ImageError(f"requirements/{requirements} does not exist; see the REQUIREMENTS of the Dockerfile")
    version = project_version()
    reference, digest = base.pinned(base_image)
    epoch_s = source_date_epoch()
    arguments = {"BASE": reference, "VERSION": version, "REVISION": revision(), "CREATED": timestamp(epoch_s)}
    return engine.Recipe(
        dockerfile=ROOT / "deploy" / "images" / f"{variant}.Dockerfile",
        context=ROOT,
        tag=image or f"pixelserve-{variant}:{version}",
        arguments=arguments | ({"REQUIREMENTS": requirements} if requirements else {}),
        labels=base_labels(base_image, digest),
        secrets=pip_settings.secrets(pip_settings.configured(), folder),
        epoch_s=epoch_s,
    )


def base_labels(base_image: str, digest: str) -> dict[str, str]:
    """Returns OCI's labels for the base."""
    named = {"org.opencontainers.image.base.name": base_image}
    return named | ({"org.opencontainers.image.base.digest": digest} if digest else {})


def project_version() -> str:
    """Returns the version in pyproject.toml."""
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])


def revision() -> str:
    """Returns the commit, marked if files differ from it; "unknown" outside a checkout."""
    commit = _git("rev-parse", "HEAD")
    return commit + ("-dirty" if _git("status", "--porcelain") else "") if commit else "unknown"


def source_date_epoch() -> int:
    """Returns SOURCE_DATE_EPOCH, else the commit's time, in seconds since 1970."""
    text = os.environ.get("SOURCE_DATE_EPOCH") or _git("show", "--no-patch", "--format=%ct", "HEAD") or "0"
    try:
        return int(text)
    except ValueError:
        raise engine.ImageError(f"SOURCE_DATE_EPOCH is {text!r}; it must be a number of seconds since 1970") from None


def timestamp(epoch_s: int) -> str:
    """Formats the time as RFC 3339, in UTC."""
    return datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def image_size(chosen: str, image: str) -> str:
    """Returns the image's unpacked size, as printed by the engine."""
    return engine.run([chosen, "images", "--format", "{{.Size}}", image]).strip()


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
