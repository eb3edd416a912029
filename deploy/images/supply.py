"""An image's SBOM (list of packages) and signature."""

import shutil
import tempfile
from pathlib import Path

from . import engine

# By syft's name for each format: the usual file suffix, and cosign's name for it.
FORMATS = {"spdx-json": (".spdx.json", "spdxjson"), "cyclonedx-json": (".cdx.json", "cyclonedx")}
_NO_COSIGN = (
    "cosign is not installed; Debian has it from trixie on (apt install cosign), and deploy/images/README.md shows how "
    "to get it on an older one"
)


def write_sbom(image: str, syft: str, target: Path, output_format: str, with_engine: str = "") -> None:
    """Writes the SBOM of a built image to a file.

    Raises:
        ImageError: there is no such image, or syft failed.
    """
    chosen = engine.choose(with_engine)
    with tempfile.TemporaryDirectory(prefix="pixelserve-sbom-") as folder:
        archive = Path(folder) / "image.tar"
        try:
            engine.run(engine.save_command(chosen, image, archive))
        except engine.ImageError as error:
            raise engine.ImageError(f"{chosen} has no image {image}; build it with `make image`\n{error}") from error
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = target.with_name(f"{target.name}.part")
        engine.run([syft, "scan", "--quiet", f"docker-archive:{archive}", "--output", f"{output_format}={unfinished}"])
        unfinished.replace(target)


def sign_commands(image: str, key: str, sbom: Path | None, more: list[str]) -> list[list[str]]:
    """Returns the commands that sign an image in a registry and, if there is an SBOM, attest it.

    Args:
        image: the image in its registry, with its digest.
        key: cosign's private key, a file or the URL of a key store; empty: keyless, with an identity provider.
        sbom: a file written by `write_sbom`.
        more: additional flags of cosign, for both commands.

    Raises:
        ImageError: the image is named without a digest.
    """
    if "@sha256:" not in image:
        raise engine.ImageError(
            f"IMAGE={image} has no digest, and a tag may have moved to another image: push it, then pass "
            "REGISTRY/NAME@sha256:…; skopeo inspect --format '{{.Digest}}' docker://REGISTRY/NAME:TAG prints the digest"
        )
    flags = [*(["--key", key] if key else []), "--yes", *more]
    commands = [["cosign", "sign", *flags, image]]
    if sbom:
        commands.append(["cosign", "attest", *flags, "--type", _kind(sbom), "--predicate", str(sbom), image])
    return commands


def _kind(sbom: Path) -> str:
    for ending, kind in FORMATS.values():
        if sbom.name.endswith(ending):
            return kind
    endings = " or ".join(ending for ending, _ in FORMATS.values())
    raise engine.ImageError(f"the SBOM {sbom} must end in {endings}, as `make sbom` names it")


def sign(image: str, key: str, sbom: Path | None, more: list[str]) -> None:
    """Signs an image in a registry; see `sign_commands`.

    Raises:
        ImageError: cosign or the named SBOM is missing, or cosign failed.
    """
    commands = sign_commands(image, key, sbom, more)
    if sbom and not sbom.is_file():
        raise engine.ImageError(f"{sbom} does not exist; write it with `make sbom`")
    if shutil.which("cosign") is None:
        raise engine.ImageError(_NO_COSIGN)
    for command in commands:
        engine.run(command)
