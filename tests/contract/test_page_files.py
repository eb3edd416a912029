"""The page's files: small enough, with known sources."""

import gzip
import hashlib
import json
import re
from pathlib import Path

import pytest

from pixelserve_server.api.rest.assets import read_assets

PAGE = Path(__file__).resolve().parent.parent.parent / "server" / "page"
VENDOR = PAGE / "vendor"
MODULES = sorted(PAGE.glob("*.js"))
_MOST_BYTES = 60 * 1024
_MOST_LINES = 200


def test_all_that_a_browser_loads_fits_into_60_kib() -> None:
    loaded = [path for path in PAGE.rglob("*") if path.suffix in (".html", ".css", ".js", ".svg")]
    assert sum(len(gzip.compress(path.read_bytes(), mtime=0)) for path in loaded) <= _MOST_BYTES


def test_vendored_files_are_those_that_the_list_names() -> None:
    listed = {
        name: digest
        for each in json.loads((VENDOR / "vendor.json").read_text())
        for name, digest in each["files"].items()
    }
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in VENDOR.iterdir()}
    del found["vendor.json"]
    assert listed == found


def test_vendored_packages_come_with_version_and_licence_text() -> None:
    for each in json.loads((VENDOR / "vendor.json").read_text()):
        assert re.fullmatch(r"\d+\.\d+\.\d+", each["version"])
        assert {f"{name}.LICENSE.txt" for name in each["licences"]} <= set(each["files"])


def imported(path: Path) -> set[str]:
    """Returns the modules that load with one."""
    return set(re.findall(r'from "\./([^"]+)"', path.read_text()))


def together(name: str) -> set[str]:
    """Returns a module and all that load with it."""
    found, waiting = set(), [name]
    while waiting:
        if (module := waiting.pop()) not in found:
            found.add(module)
            waiting += imported(PAGE / module)
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_modules_are_small_and_import_only_files_of_the_page(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= _MOST_LINES
    assert all((PAGE / name).is_file() for name in imported(path))
    assert len(re.findall(r"^(?:import|export \{[^}]*\} from) ", text, re.MULTILINE)) == len(imported(path))


def test_the_index_names_files_of_the_page_and_has_nothing_inline() -> None:
    text = (PAGE / "index.html").read_text()
    named = re.findall(r'(?:src|href)="(/page/[^"]+)"', text)
    assert len(named) >= 4
    assert set(named) <= set(read_assets().by_path)
    # Named here, they are fetched at once instead of one after the other; the other views come after them.
    preloaded = re.findall(r'rel="modulepreload" href="/page/([^"]+)"', text)
    assert sorted(preloaded) == sorted(together("app.js") - {"app.js"})
    assert together("app.js") | together("views.js") == {path.name for path in MODULES} | {"vendor/preact.js"}
    assert 'import("./views.js")' in (PAGE / "app.js").read_text()
    assert not re.search(r"<style|style=|\son\w+=|<script>", text)
