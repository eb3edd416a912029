"""The browser shared by the tests of the page."""

from collections.abc import Iterator

import pytest
from browser import Browser, running_browser
from page_visits import visit


@pytest.fixture(scope="session")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with running_browser(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@pytest.fixture
def page(window: Browser, http: str) -> Iterator[Browser]:
    """The page of the server `http` with its first answer; at the end no request left it and the console is empty."""
    visit(window, http)
    yield window
    assert window.console() == []
    elsewhere = [url for url in window.requested() if not url.startswith((f"{http}/", "blob:", "data:"))]
    assert elsewhere == []
