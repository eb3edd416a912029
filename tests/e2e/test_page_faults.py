"""Errors on the page: each shows a message, and nothing appears in the console."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from browser import Browser
from page_visits import IN_A_BROWSER, PAD, SEVEN, hand_over, pick, problem, visit

ROOT = Path(__file__).resolve().parent.parent.parent
pytestmark = IN_A_BROWSER


@pytest.fixture(scope="module")
def http(
    start_module_server: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
    model_writer: Callable[..., Path],
) -> str:
    """The URL of a server on mnist-cnn and `doubler`, which is not an image classifier."""
    repository = tmp_path_factory.mktemp("repository")
    (repository / "mnist-cnn").symlink_to(ROOT / "models" / "mnist-cnn")
    model_writer(repository / "doubler" / "1" / "model.onnx")
    return str(start_module_server(repository).http)


def huge_png() -> bytes:
    """Returns a PNG whose header says 100,000 × 100,000 pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("name", "content", "kind", "says"),
    [
        ("notes.txt", b"not a picture", "text/plain", "text, which cannot be read as a picture"),
        ("empty.png", b"", "image/png", "empty"),
        ("huge.png", huge_png(), "image/png", "pixels"),
    ],
    ids=["text", "empty", "huge"],
)
def test_an_invalid_picture_shows_a_sentence(page: Browser, name: str, content: bytes, kind: str, says: str) -> None:
    hand_over(page, name, content, kind=kind)
    assert says in problem(page)
    page.press("s")
    page.wait("!document.querySelector('main .problem') && document.querySelector('.bars')")
    page.wait("document.querySelector('img.shown').checkVisibility()")
    page.draw(PAD, [(0.5, 0.2), (0.5, 0.5), (0.5, 0.8)])
    page.wait("!document.querySelector('img.shown') && document.querySelectorAll('.surface path').length === 1")


def test_a_camera_that_is_refused_is_a_sentence(page: Browser) -> None:
    page.cdp("Browser.setPermission", permission={"name": "camera"}, setting="denied")
    page.click(".camera")
    assert problem(page).startswith("Camera access was denied.")


def test_a_model_without_pictures_has_a_form_for_its_tensors(page: Browser) -> None:
    pick(page, "doubler/1")
    page.wait("document.querySelector('#request')?.value.includes('FP32')")
    assert "does not accept pictures" in page.text("main")
    page.run("""
        const field = document.querySelector("#request");
        field.value = field.value.replace("[ 0, 0, 0, 0 ]", "[1, 2, 3, 4]").replace("[0,0,0,0]", "[1, 2, 3, 4]");
        field.dispatchEvent(new Event("input", { bubbles: true }));""")
    page.click(".tensors button")
    page.wait("document.querySelector('.tensors pre')?.innerText === '2, 4, 6, 8'")
    page.run("""
        const field = document.querySelector("#request");
        field.value = "{";
        field.dispatchEvent(new Event("input", { bubbles: true }));""")
    page.click(".tensors button")
    assert problem(page).startswith("This is not JSON")


def test_a_server_that_goes_away_is_a_sentence(start_server: Callable[..., Any], window: Browser) -> None:
    server = start_server(ROOT / "models")
    visit(window, str(server.http))
    server.stop()
    window.press("c")
    window.draw(PAD, SEVEN)
    assert problem(window) == "The server does not answer. Is it still running?"
    # Browsers report each failed request; the page adds nothing to it.
    assert [line for line in window.console() if "Failed to load resource" not in line] == []


def test_a_server_without_models_says_so(start_server: Callable[..., Any], window: Browser, tmp_path: Path) -> None:
    server = start_server(tmp_path, "--model-control-mode", "explicit")
    visit(window, str(server.http), "trust")
    assert "No model is ready" in problem(window)
    assert window.console() == []


def test_views_that_cannot_be_loaded_are_a_sentence(page: Browser, http: str) -> None:
    page.cdp("Network.enable")
    page.cdp("Network.setBlockedURLs", urls=["*/views.js"])
    try:
        visit(page, http)
        page.press("2")
        assert problem(page) == "The server did not answer. Reload the page once it is running."
        page.press("1")
        page.wait("document.querySelector('.reading')")
        assert all("views.js" in line for line in page.console())
    finally:
        page.cdp("Network.setBlockedURLs", urls=[])


@pytest.mark.parametrize("place", [".pad", "header"])
def test_what_is_dropped_without_a_file_or_beside_the_pad_changes_nothing(page: Browser, place: str) -> None:
    before = page.text(".reading .verdict")
    prevented = page.run(
        """
        const transfer = new DataTransfer();
        transfer.setData("text/uri-list", "http://127.0.0.1:9/");
        const event = new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true });
        document.querySelector(a).dispatchEvent(event);
        return event.defaultPrevented;""",
        place,
    )
    assert prevented
    assert page.text(".reading .verdict") == before


def test_a_device_without_a_camera_says_so(page: Browser) -> None:
    page.run("""
        const missing = async () => { throw new DOMException("none", "NotFoundError"); };
        Object.defineProperty(navigator.mediaDevices, "getUserMedia", { value: missing });""")
    page.click(".camera")
    assert problem(page) == "This device has no camera. Choose a picture instead."
