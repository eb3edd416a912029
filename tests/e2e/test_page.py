"""The page in a real browser, against a server on the committed models."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Browser, missing_packages, running_browser

ROOT = Path(__file__).resolve().parent.parent.parent
SEVEN = [(0.70, 0.72), (0.90, 0.72), (0.83, 0.82), (0.78, 0.94)]
PAD = ".surface"
ANSWER = ".reading .verdict b"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing_packages()), reason=f"needs Debian's {' and '.join(missing_packages())}"),
]


@pytest.fixture(scope="module")
def http(start_module_server: Callable[..., Any]) -> str:
    return str(start_module_server(ROOT / "models").http)


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with running_browser(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@pytest.fixture
def page(window: Browser, http: str) -> Iterator[Browser]:
    """The page, freshly loaded, with an answer; at the end nothing is in the console and nothing left the origin."""
    window.open("about:blank")
    window.console(), window.requested()
    window.open(f"{http}/")
    window.wait(f"document.querySelector('{ANSWER}')?.innerText.trim()")
    yield window
    assert window.console() == []
    elsewhere = [url for url in window.requested() if not url.startswith((f"{http}/", "blob:", "data:"))]
    assert elsewhere == []


def test_a_small_seven_in_a_corner_is_read_as_seven(page: Browser) -> None:
    page.click("button[aria-keyshortcuts='c']")
    page.wait(f"document.querySelector('{ANSWER}').innerText.trim() === ''")
    page.draw(PAD, SEVEN)
    page.wait(f"document.querySelector('{ANSWER}').innerText === '7'")
