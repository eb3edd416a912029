"""The page in a real browser, against a server on the committed models."""

import base64
import json
import shutil
import struct
import subprocess
import sys
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import TAB, Browser, missing_packages, running_browser

ROOT = Path(__file__).resolve().parent.parent.parent
AXE = Path(sys.prefix) / "node" / "node_modules" / "axe-core" / "axe.min.js"
PICTURES = ROOT / "examples" / "mnist"
VIEWS = ("try", "trust", "watch", "use")
# In the lower right corner, a quarter of the pad wide.
SEVEN = [(0.70, 0.72), (0.90, 0.72), (0.83, 0.82), (0.78, 0.94)]
PAD = ".surface"
ANSWER = ".reading .verdict b"
SHOWS = f"document.querySelector('{ANSWER}')?.innerText.trim() === a"
# Gives the page a file as a visitor does: dropped on the pad, or pasted.
HAND_OVER = """
const bytes = Uint8Array.from(atob(a.data), (c) => c.charCodeAt(0));
const transfer = new DataTransfer();
transfer.items.add(new File([bytes], a.name, { type: a.type }));
const event = a.how === "drop"
  ? new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true })
  : new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true });
document.querySelector(".pad").dispatchEvent(event);
"""
PICK = """
const list = document.querySelectorAll("header select")[a.list];
list.value = a.key;
list.dispatchEvent(new Event("change", { bubbles: true }));
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing_packages()), reason=f"needs Debian's {' and '.join(missing_packages())}"),
]


@pytest.fixture(scope="module")
def http(
    start_module_server: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
    model_writer: Callable[..., Path],
    graph_writer: Callable[..., Path],
) -> str:
    """The URL of a server on the committed models, `doubler`, which takes no pictures, and `colours`, with scores."""
    repository = tmp_path_factory.mktemp("repository")
    for folder in (ROOT / "models").iterdir():
        (repository / folder.name).symlink_to(folder)
    model_writer(repository / "doubler" / "1" / "model.onnx")
    image, scores = {"image": ("UINT8", ["N", 1, 3, 1])}, {"scores": ("FLOAT", ["N", 3])}
    nodes = ("Flatten", "image", "flat"), ("Cast", "flat", "scores")
    graph_writer(repository / "colours" / "1" / "model.onnx", image, scores, *nodes, to=1)
    (repository / "colours" / "labels.txt").write_text("red\ngreen\nblue\n")
    (repository / "colours" / "config.pbtxt").write_text(
        'max_batch_size: 4 output { name: "scores" data_type: TYPE_FP32 dims: 3 label_filename: "labels.txt" } '
        'parameters { key: "output_kind" value { string_value: "scores" } }'
    )
    return str(start_module_server(repository).http)


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with running_browser(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@pytest.fixture
def page(window: Browser, http: str) -> Iterator[Browser]:
    """The page with its first answer; at the end the console is empty and no request left the origin."""
    visit(window, http)
    yield window
    assert window.console() == []
    elsewhere = [url for url in window.requested() if not url.startswith((f"{http}/", "blob:", "data:"))]
    assert elsewhere == []


def visit(window: Browser, http: str, view: str = "try") -> None:
    window.open("about:blank")
    window.console()
    window.requested()
    window.open(f"{http}/#{view}")
    window.wait("document.querySelector('main')?.children.length && !document.body.innerText.includes('Loading')")
    if view == "try":
        window.wait(f"document.querySelector('{ANSWER}')?.innerText.trim()")


def clear(page: Browser) -> None:
    page.press("c")
    page.wait(SHOWS, "")


def hand_over(page: Browser, name: str, content: bytes, how: str = "drop", kind: str = "image/png") -> None:
    page.run(HAND_OVER, {"name": name, "data": base64.b64encode(content).decode(), "how": how, "type": kind})


def problem(page: Browser) -> str:
    page.wait("document.querySelector('main .problem')")
    return page.text("main .problem")


def test_a_small_seven_in_a_corner_is_read_as_seven(page: Browser) -> None:
    clear(page)
    page.draw(PAD, SEVEN)
    page.wait(SHOWS, "7")
    assert "28 × 28 pixels, grey, ink centred as in MNIST" in page.text(".seen")


@pytest.mark.parametrize("how", ["drop", "paste"])
def test_a_picture_that_is_dropped_or_pasted_is_classified(page: Browser, how: str) -> None:
    clear(page)
    path = PICTURES / "digit-3-test-00018.png"
    hand_over(page, path.name, path.read_bytes(), how)
    page.wait(SHOWS, "3")


def test_a_picture_that_is_chosen_is_classified(page: Browser) -> None:
    clear(page)
    page.type("input[type=file]", str(PICTURES / "digit-0-test-00003.png"))
    page.wait(SHOWS, "0")


def test_two_models_are_compared(page: Browser) -> None:
    page.run(PICK, {"list": 0, "key": "mnist-cnn/1"})
    page.run(PICK, {"list": 1, "key": "mnist/1"})
    page.wait("document.querySelectorAll('.reading .bars').length === 2")
    page.wait("document.querySelector('.agreement')?.innerText === 'They agree.'")
    assert "mnist-cnn version 1 says" in page.text(".reading")
    page.run(PICK, {"list": 1, "key": "fashion-mnist/1"})
    page.wait("document.querySelector('.agreement')?.innerText.startsWith('They differ: 7 and ')")


def test_another_model_begins_with_a_sample_of_its_own(page: Browser) -> None:
    page.run(PICK, {"list": 0, "key": "cifar10/1"})
    page.wait("document.querySelector('.strip [aria-pressed=true]')")
    page.wait("document.querySelectorAll('.strip button').length === 10")
    page.wait(f"document.querySelector('{ANSWER}').innerText.length > 2")


def test_scores_have_no_percent_sign(page: Browser) -> None:
    page.run(PICK, {"list": 0, "key": "colours/1"})
    page.wait("document.querySelector('.bars caption')?.innerText === 'Best classes by score'")
    assert "%" not in page.text(".bars")
    assert "255.0" in page.text(".bars")


def test_one_request_is_in_flight_and_the_newest_picture_wins(page: Browser) -> None:
    clear(page)
    page.run("""
        const original = window.fetch;
        window.flight = { now: 0, most: 0, all: 0 };
        window.fetch = async (path, options) => {
          if (!path.includes(":classify")) return original(path, options);
          flight.all += 1;
          flight.now += 1;
          flight.most = Math.max(flight.most, flight.now);
          await new Promise((done) => setTimeout(done, 100));
          try { return await original(path, options); } finally { flight.now -= 1; }
        };""")
    page.draw(PAD, [(x / 40, y) for x, y in [(12, 0.3)] + [(x, 0.3) for x in range(13, 28)]])
    page.draw(PAD, [(0.7, 0.3), (0.6, 0.45), (0.52, 0.6), (0.48, 0.75)])
    page.wait(SHOWS, "7")
    page.wait("flight.now === 0")
    flight = page.run("return flight")
    assert flight["most"] == 1
    assert flight["all"] >= 2


def test_why_draws_an_occlusion_map_over_the_picture(page: Browser) -> None:
    assert page.run("return document.querySelector('.map')") is None
    page.press("w")
    page.wait("document.querySelector('.map')?.width === 7")
    assert page.run("return document.querySelector('.map').ariaLabel").startswith(
        "Occlusion map of 7 × 7 cells: covering"
    )
    assert "Covering this lowers 7 by up to" in page.text(".seen")
    page.click(".why")
    page.wait("!document.querySelector('.map')")


def test_everything_works_by_keyboard(page: Browser) -> None:
    for key, view in zip("2341", ("Trust", "Watch", "Use", "Try"), strict=True):
        page.press(key)
        page.wait("document.querySelector('[role=tab][aria-selected=true]').innerText === a", view)
    clear(page)
    page.press("s")
    page.wait("document.querySelector('.strip [aria-pressed=true]')?.ariaLabel === 'Sample 1'")
    page.wait(f"document.querySelector('{ANSWER}').innerText.trim()")
    page.press("s")
    page.wait("document.querySelector('.strip [aria-pressed=true]')?.ariaLabel === 'Sample 2'")


def test_each_control_is_reached_by_tab_and_shows_its_focus(page: Browser) -> None:
    reached = set()
    for _ in range(40):
        page.press(TAB)
        name, outline = page.run("""
            const focused = document.activeElement;
            if (focused === document.body) return ["", ""];
            const shown = focused.closest("label.button") ?? focused;
            const name = focused.ariaLabel || focused.innerText || focused.type;
            return [name, getComputedStyle(shown).outlineStyle];""")
        if name:
            assert outline != "none", name
            reached.add(name)
    assert {"Try", "Dark", "Camera", "Undo", "Clear", "file", "Sample 1", "Sample 10"} <= reached


@pytest.mark.skipif(not AXE.is_file(), reason="needs npm's axe-core in .venv/node (make test installs it)")
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("view", VIEWS)
def test_axe_finds_no_violation(page: Browser, view: str, theme: str) -> None:
    page.run("location.hash = a; ", view)
    page.run("document.documentElement.dataset.theme = a", theme)
    page.run(PICK, {"list": 1, "key": "mnist-cnn/1"})
    page.press("w")
    page.wait("document.querySelector('[role=tab][aria-selected=true]').innerText.toLowerCase() === a", view)
    if view == "try":
        page.wait("document.querySelectorAll('.map').length === 2")
    page.run("await Promise.all(document.getAnimations().map((each) => each.finished))")
    page.run(AXE.read_text() + "; window.axe = axe;")
    found = page.run(
        "return (await axe.run()).violations.map((each) => [each.id, each.nodes.map((node) => node.html)])"
    )
    assert found == []


@pytest.mark.parametrize("view", VIEWS)
def test_a_phone_shows_one_column_without_scrolling_sideways(page: Browser, view: str) -> None:
    page.cdp("Emulation.setDeviceMetricsOverride", width=360, height=740, deviceScaleFactor=2, mobile=True)
    try:
        page.run("location.hash = a", view)
        page.wait("document.querySelector('[role=tab][aria-selected=true]').innerText.toLowerCase() === a", view)
        assert page.run("return document.documentElement.scrollWidth") <= 360
    finally:
        page.cdp("Emulation.clearDeviceMetricsOverride")


def test_trust_has_the_accuracy_with_its_interval(page: Browser) -> None:
    page.run(PICK, {"list": 0, "key": "mnist-cnn/1"})
    page.press("2")
    page.wait("document.querySelector('.headline')")
    # 9,932 of 10,000, by the card.
    assert "99.32 % accuracy" in page.text()
    assert "Between 99.14 % and 99.46 % (95 % Wilson interval), on 10,000 samples of MNIST (test)" in page.text()
    assert "16 golden samples reproduced" in page.text()


def test_watch_shows_what_the_server_does(page: Browser) -> None:
    page.press("3")
    page.wait("document.querySelectorAll('.plot canvas').length === 5")
    for _ in range(3):
        page.press("s")
    page.wait("/p50 [0-9.,]+ (µs|ms|s)/.test(document.querySelectorAll('.chart')[1].innerText)")
    assert "doubler" in page.text(".list")
    assert "unverified: no card.json" in page.text(".list")


def test_the_calls_in_use_work_as_they_stand(page: Browser, tmp_path: Path) -> None:
    page.press("4")
    page.wait("document.querySelectorAll('pre').length === 4")
    # The port of gRPC comes with the first figures.
    page.wait("!document.querySelector('main').innerText.includes(':8001')")
    shell, python, _, triton = page.run("return [...document.querySelectorAll('pre')].map((each) => each.innerText)")
    shutil.copy(PICTURES / "digit-7-test-00000.png", tmp_path / "picture.png")
    commands = {"curl": ["bash", "-c", shell], "python": [sys.executable, "-c", python]}
    commands["tritonclient"] = [f"{sys.prefix}/tritonclient/bin/python", "-c", triton]
    outputs = {
        name: subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True).stdout
        for name, command in commands.items()
    }
    page.click(".use p button")
    assert '"label":"7"' in outputs["curl"]
    assert outputs["python"].startswith("7 0.9")
    assert outputs["tritonclient"].startswith("[[")


def test_every_http_method_has_a_form_and_its_answer(page: Browser) -> None:
    page.press("4")
    page.wait("document.querySelectorAll('details').length > 20")
    opened = """[...document.querySelectorAll("details")].find((each) => each.innerText.startsWith(a))"""
    for method in (
        "GET /v2/models/{model}/versions/{version}/config",
        "POST /v1/models/{model}:classify",
        "POST /v2/models/{model}/infer",
    ):
        page.run(f"const found = {opened}; found.open = true; found.querySelector('form button').click()", method)
        page.wait(f"/^200 after/.test({opened}.querySelector('[role=status]').innerText)", method)
    answer = page.run(f"return {opened}.innerText", "POST /v1/models/{model}:classify")
    assert '"label":"7"' in answer


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
def test_what_is_no_picture_is_a_sentence(page: Browser, name: str, content: bytes, kind: str, says: str) -> None:
    hand_over(page, name, content, kind=kind)
    assert says in problem(page)
    page.press("s")
    page.wait("!document.querySelector('main .problem') && document.querySelector('.bars')")
    page.wait("document.querySelector('img.shown').checkVisibility()")
    page.draw(PAD, [(0.5, 0.2), (0.5, 0.5), (0.5, 0.8)])
    page.wait("!document.querySelector('img.shown') && document.querySelectorAll('.surface path').length === 1")


def test_a_model_without_pictures_has_a_form_for_its_tensors(page: Browser) -> None:
    page.run(PICK, {"list": 0, "key": "doubler/1"})
    page.wait("document.querySelector('#request')?.value.includes('FP32')")
    assert "takes no pictures" in page.text("main")
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


def test_a_camera_that_is_refused_is_a_sentence(page: Browser) -> None:
    page.cdp("Browser.setPermission", permission={"name": "camera"}, setting="denied")
    page.click(".camera")
    assert problem(page).startswith("The camera was refused.")


def test_what_the_camera_shows_is_classified(page: Browser) -> None:
    page.cdp("Browser.setPermission", permission={"name": "camera"}, setting="granted")
    clear(page)
    page.click(".camera")
    page.wait("document.querySelector('video')?.videoWidth")
    page.wait(f"document.querySelector('{ANSWER}')?.innerText.trim()")
    page.click(".tools button")
    page.wait("!document.querySelector('video') && document.querySelector('img.shown')")


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
    assert "no model that is ready" in problem(window)
    assert window.console() == []


def test_a_model_that_is_loaded_later_appears(start_server: Callable[..., Any], window: Browser) -> None:
    server = start_server(ROOT / "models", "--model-control-mode", "explicit", "--load-models", "mnist")
    visit(window, str(server.http))
    options = "[...document.querySelectorAll('header select')[0].options].map((each) => each.value).join()"
    assert window.run(f"return {options}") == "mnist/1"
    request = urllib.request.Request(f"{server.http}/v2/repository/models/cifar10/load", b"", method="POST")
    urllib.request.urlopen(request, timeout=60).close()
    window.wait(f"{options} === 'cifar10/1,mnist/1'")
    assert window.text(ANSWER) == "7"


def test_with_tokens_the_page_asks_for_one_and_forgets_it(
    start_server: Callable[..., Any], window: Browser, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "pixelserve", "token", "new", "--scope", "infer", "--scope", "observe", "--json"]
    made = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    (tmp_path / "tokens").write_text(made["line"] + "\n")
    server = start_server(ROOT / "models", "--tokens", str(tmp_path / "tokens"))
    visit(window, str(server.http), "trust")
    assert problem(window).startswith("This server requires a token")
    window.type("#token", "mistyped")
    window.click(".token button")
    window.wait("document.querySelector('main .problem').innerText === 'The token is unknown: mistyped, or revoked.'")
    window.run("document.querySelector('#token').value = ''")
    window.type("#token", made["token"])
    window.click(".token button")
    window.wait("document.querySelector('.headline')")
    window.press("1")
    window.wait(SHOWS, "7")
    window.wait("document.querySelector('.status')?.innerText.startsWith('ready')")
    assert window.run("return localStorage.length + sessionStorage.length + document.cookie.length") == 0
    visit(window, str(server.http), "trust")
    assert problem(window).startswith("This server requires a token")
