"""`make docs`: the documentation's site."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Resources that a page loads; links do not count.
LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href", "object": "data"}

pytestmark = pytest.mark.slow


class Loads(HTMLParser):
    """Collects the addresses that a page loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if name == LOADED.get(tag)]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built so that a broken link, an unknown anchor or a page that docs/index.md lacks is an error."""
    folder = tmp_path_factory.mktemp("site")
    command = [f"{sys.prefix}/docs/bin/mkdocs", "build", "--strict", "--site-dir", str(folder)]
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, env=env)
    assert done.returncode == 0, done.stderr
    return folder


def page_of(source: Path) -> Path:
    """Returns the page that MkDocs writes for a file: a folder's README is its index."""
    return source.with_name("index.html") if source.name == "README.md" else source.with_suffix(".html")


def test_every_page_of_the_documentation_is_on_the_site(site: Path) -> None:
    pages = {page_of(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")}
    assert {Path("index.html"), Path("deploy/index.html"), *pages} <= {
        path.relative_to(site) for path in site.rglob("*.html")
    }


def test_no_page_loads_anything_from_the_network(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text()
        assert not [address for address in Loads(text).found if re.match(r"(\w+:)?//", address)], page
        # The theme would fetch a library for diagrams.
        assert 'class="mermaid"' not in text, page
    for path in [*site.rglob("*.css"), *site.rglob("*.svg")]:
        assert not re.search(r"(@import|url\()\s*['\"]?(https?:)?//", path.read_text()), path


def test_pictures_are_where_the_pages_look_for_them(site: Path) -> None:
    for page in site.rglob("*.html"):
        missing = [each for each in Loads(page.read_text()).found if not (page.parent / each.split("?")[0]).exists()]
        # The page for unknown addresses has absolute ones.
        assert not missing or page.name == "404.html"
