"""`make image-check`: builds the server's image from its Dockerfile, inspects it, and runs it."""

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ..results import Result
from . import build, contents, engine, running, supply
from .container import Container

# The package of each program.
PACKAGES = {"buildah": "buildah", "podman": "podman", "runc": "runc", "mmdebstrap": "mmdebstrap"}
SUITE = "trixie"
BASE = "localhost/pixelserve-check-base:trixie"
IMAGE = "localhost/pixelserve-check-server:latest"


def missing_packages() -> list[str]:
    """Returns the Debian packages missing for the check."""
    return [package for program, package in PACKAGES.items() if shutil.which(program) is None]


def check(*, as_json: bool, syft: str) -> int:
    """Runs all checks and prints their table; returns 0 if every goal is met, else 1.

    Raises:
        ImageError: a tool is missing, or the image could not be built or started.
    """
    if missing := missing_packages():
        raise engine.ImageError(f"image-check needs these packages: apt install {' '.join(missing)}")
    if shutil.which(syft) is None:
        raise engine.ImageError(f"there is no {syft}; `make image-check` installs syft, or name yours with --syft PATH")
    if os.geteuid() != 0:
        raise engine.ImageError("image-check creates a base system and limits a container's memory; run it as root")
    results = list(_results(syft))
    if as_json:
        print(json.dumps({"ok": all(each.ok for each in results), "checks": [asdict(each) for each in results]}))
    else:
        _print_table(results)
    return int(not all(each.ok for each in results))


def _results(syft: str) -> Iterator[Result]:
    with tempfile.TemporaryDirectory(prefix="pixelserve-check-") as name:
        folder = Path(name)
        make_base(folder / "base.tar")
        # chroot works for root in a container.
        os.environ["BUILDAH_ISOLATION"] = "chroot"
        build.build("server", IMAGE, BASE, "buildah", announce=_announce)
        yield from contents.check_config(json.loads(engine.run(["podman", "image", "inspect", IMAGE]))[0])
        yield compressed_size(folder / "layout")
        root = engine.run(["podman", "image", "mount", IMAGE]).strip()
        try:
            yield from contents.check_files(Path(root))
        finally:
            engine.run(["podman", "image", "unmount", IMAGE])
        with Container(IMAGE) as container:
            yield from running.check(container)
        yield sbom_names_packages(syft, folder / "image.spdx.json")


def make_base(archive: Path) -> None:
    """Creates a minimal Debian in place of a registry's base image, and imports it as an image."""
    _announce(f"making a base of Debian {SUITE} with mmdebstrap")
    engine.run(["mmdebstrap", "--quiet", "--variant=apt", SUITE, str(archive)])
    engine.run(["podman", "import", "--quiet", str(archive), BASE])


def compressed_size(layout: Path) -> Result:
    """Returns the gzip-compressed size of the image, as in a registry."""
    engine.run(["buildah", "push", "--quiet", IMAGE, f"oci:{layout}"])
    return Result("compressed size", "", f"{contents.compressed_mb(layout):.0f} MB", ok=True)


def sbom_names_packages(syft: str, target: Path) -> Result:
    """Writes the SBOM, and checks that it contains packages of Debian and PyPI and the project."""
    supply.write_sbom(IMAGE, syft, target, "spdx-json", "buildah")
    names = {package["name"] for package in json.loads(target.read_text())["packages"]}
    lacking = sorted({"libc6", "onnxruntime", "pixelserve", "python3.13-minimal"} - names)
    found = f"{len(names)} packages" + (f", without {', '.join(lacking)}" if lacking else "")
    return Result("SBOM", "Debian's and Python's packages", found, not lacking)


def _announce(line: str) -> None:
    print(line, file=sys.stderr)


def _print_table(results: list[Result]) -> None:
    table = Table("check", "goal", "found", "")
    for each in results:
        table.add_row(each.name, each.goal, each.found, "OK" if each.ok else "[bold]FAILED[/bold]")
    Console(width=None if Console().is_terminal else 130).print(table)
    failed = sum(not each.ok for each in results)
    print(f"{len(results)} checks, {failed} failed")
