"""Builds the sdist and the wheel, checks them, installs the wheel and calls its server.

    python -m deploy.release                    everything; needs the package index
    python -m deploy.release --only-build       only build, contents, sizes, licences; needs no network

Every supported Python on PATH gets an empty environment; --require-all fails if one is missing. The archives and an
SBOM (CycloneDX) per environment are left in --out.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ..results import Result
from . import archives, installed, sbom

SUPPORTED = ("3.11", "3.12", "3.13")


def main(arguments: list[str] | None = None) -> int:
    """Runs the checks and prints a line each; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m deploy.release", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=archives.ROOT / "dist", help="folder to write to (default: dist)")
    parser.add_argument("--only-build", action="store_true", help="install nothing")
    parser.add_argument("--require-all", action="store_true", help="fail if a supported Python is not installed")
    given = parser.parse_args(arguments)
    failed = False
    for result in check(given.out, only_build=given.only_build, require_all=given.require_all):
        failed |= not result.ok
        print(f"{'ok  ' if result.ok else 'FAIL'}  {result.name}: {result.found} (expected: {result.goal})", flush=True)
    return int(failed)


def check(out: Path, *, only_build: bool, require_all: bool) -> Iterator[Result]:
    """Builds into `out` and yields each check's result."""
    with tempfile.TemporaryDirectory(prefix="pixelserve-release-") as folder:
        sdist, wheel = archives.build(Path(folder) / "source", out)
        yield from archives.check(sdist, wheel)
        if only_build:
            return
        for version in SUPPORTED:
            python = installed.find(version)
            if python is None:
                yield Result(f"Python {version}", "installed", "not tried: not installed", not require_all)
                continue
            environment = installed.install(python, wheel, Path(folder) / version)
            yield from installed.check(environment, version)
            path = out / f"{wheel.name.removesuffix('-py3-none-any.whl')}-python{version}.cdx.json"
            yield sbom.write(path, installed.distributions(environment))


if __name__ == "__main__":
    sys.exit(main())
