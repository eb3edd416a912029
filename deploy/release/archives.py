"""The sdist and the wheel: built from tracked files, and what they must contain."""

import json
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator, Mapping
from email.parser import Parser
from pathlib import Path

from .results import Result

ROOT = Path(__file__).resolve().parent.parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
VENDOR = Path("server/page/vendor")
MAX_KIB = 1500
# Written by the build, beside files of the project.
_SDIST_EXTRAS = {"PKG-INFO", "setup.cfg"}
_WHEEL_EXTRAS = {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "top_level.txt"}
_GIT = shutil.which("git") or "git"
_METADATA = ("pyproject.toml", "README.md", "LICENSE")


def build(source: Path, out: Path) -> tuple[Path, Path]:
    """Builds from the project's tracked files; returns the sdist and the wheel, which is built from the sdist.

    Args:
        source: a folder that does not exist yet, for the files that are built from.
        out: where the archives are written.
    """
    for name in tracked():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"the build failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    name = f"{PROJECT['project']['name']}-{PROJECT['project']['version']}"
    return out / f"{name}.tar.gz", out / f"{name}-py3-none-any.whl"


def tracked() -> list[str]:
    """Returns the files that a release is made of, by their paths in the project."""
    folders = PROJECT["tool"]["setuptools"]["package-dir"].values()
    listing = subprocess.run(
        [_GIT, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *folders, *_METADATA],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return sorted(name for name in listing.stdout.split("\0") if name and (ROOT / name).is_file())


def check(sdist: Path, wheel: Path) -> Iterator[Result]:
    """Checks contents, sizes and licences."""
    top = sdist.name.removesuffix(".tar.gz")
    with tarfile.open(sdist) as archive:
        files = [member.name.removeprefix(f"{top}/") for member in archive.getmembers() if not member.isdir()]
    packed = {name for name in files if ".egg-info/" not in name} - _SDIST_EXTRAS
    yield _same("files of the sdist", packed, set(tracked()))
    with zipfile.ZipFile(wheel) as archive:
        metadata = archive.read(f"{top}.dist-info/METADATA").decode()
        yield _same("files of the wheel", set(archive.namelist()), wheel_names(top, tracked()))
    tests = sorted(name for name in packed if "/test" in name)
    yield Result("no tests", "none", ", ".join(tests) or "none", not tests)
    for path in (sdist, wheel):
        kib = path.stat().st_size / 1024
        yield Result(f"size of {path.name}", f"at most {MAX_KIB} KiB", f"{kib:.0f} KiB", kib <= MAX_KIB)
    yield from check_licences(metadata)


def wheel_names(top: str, names: list[str]) -> set[str]:
    """Returns what a wheel holds that is built from these files of the project.

    Args:
        top: the distribution's name and version, such as pixelserve-0.2.0.
        names: paths in the project.
    """
    folders: Mapping[str, str] = PROJECT["tool"]["setuptools"]["package-dir"]
    installed_as = {folder: package for package, folder in folders.items()}
    packed = {f"{top}.dist-info/{name}" for name in _WHEEL_EXTRAS}
    for name in names:
        folder, _, rest = name.partition("/")
        if folder in installed_as:
            packed.add(f"{installed_as[folder]}/{rest}")
    licences = {path for pattern in PROJECT["project"]["license-files"] for path in ROOT.glob(pattern)}
    return packed | {f"{top}.dist-info/licenses/{path.relative_to(ROOT).as_posix()}" for path in licences}


def check_licences(metadata: str) -> Iterator[Result]:
    """Checks that the metadata names the licence of each bundled library and its file."""
    headers = Parser().parsestr(metadata)
    named = set(str(headers["License-Expression"]).split(" AND "))
    files = set(headers.get_all("License-File") or ())
    for library in json.loads((ROOT / VENDOR / "vendor.json").read_text()):
        for name, licence in library["licences"].items():
            text = (VENDOR / f"{name}.LICENSE.txt").as_posix()
            found = f"{licence if licence in named else 'not in the metadata'}, {text if text in files else 'no text'}"
            yield Result(f"licence of {name}", f"{licence}, {text}", found, licence in named and text in files)


def _same(name: str, found: set[str], expected: set[str]) -> Result:
    strays, missing = sorted(found - expected), sorted(expected - found)
    shown = [f"{len(found)} files"]
    shown += [f"stray: {', '.join(strays[:5])}"] if strays else []
    shown += [f"missing: {', '.join(missing[:5])}"] if missing else []
    return Result(name, f"the {len(expected)} of the project", "; ".join(shown), found == expected)
