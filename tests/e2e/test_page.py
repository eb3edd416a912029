"""The page in a real browser, against a server on the committed models."""

import json
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from browser import TAB, Browser
from page_visits import ANSWER, AXE, IN_A_BROWSER, PAD, SEVEN, SHOWS, clear, hand_over, pick, problem, violations, visit

ROOT = Path(__file__).resolve().parent.parent.parent
PICTURES = ROOT / "examples" / "mnist"
VIEWS = ("try", "trust", "watch", "use")
pytestmark = IN_A_BROWSER


@pytest.fixture(scope="module")
def http(
    start_module_server: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
    model_writer: Callable[..., Path],
    graph_writer: Callable[..., Path],
) -> str:
    """The URL of a server on the committed models, `doubler` (not an image classifier) and `colours` (with scores)."""
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
    pick(page, "mnist-cnn/1")
    pick(page, "mnist/1", 1)
    page.wait("document.querySelectorAll('.reading .bars').length === 2")
    page.wait("document.querySelector('.agreement')?.innerText === 'They agree.'")
    assert "mnist-cnn version 1 says" in page.text(".reading")
    pick(page, "fashion-mnist/1", 1)
    page.wait("document.querySelector('.agreement')?.innerText.startsWith('They differ: 7 and ')")


def test_another_model_begins_with_a_sample_of_its_own(page: Browser) -> None:
    pick(page, "cifar10/1")
    page.wait("document.querySelector('.strip [aria-pressed=true]')")
    page.wait("document.querySelectorAll('.strip button').length === 10")
    page.wait(f"document.querySelector('{ANSWER}').innerText.length > 2")


def test_scores_have_no_percent_sign(page: Browser) -> None:
    pick(page, "colours/1")
    page.wait("document.querySelector('.bars caption')?.innerText === 'Best classes by score'")
    assert "%" not in page.text(".bars")
    assert "255.0" in page.text(".bars")


def test_a_model_without_golden_samples_says_so(page: Browser) -> None:
    pick(page, "colours/1")
    page.wait("document.querySelector('.input .none')")
    assert page.text(".none") == "This version has no golden samples that can be shown as pictures."


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
    pick(page, "mnist-cnn/1", 1)
    page.press("w")
    page.wait("document.querySelector('[role=tab][aria-selected=true]').innerText.toLowerCase() === a", view)
    if view == "try":
        page.wait("document.querySelectorAll('.map').length === 2")
    assert violations(page) == []


@pytest.mark.parametrize("view", VIEWS)
def test_a_phone_shows_one_column_without_scrolling_sideways(page: Browser, view: str) -> None:
    page.cdp("Emulation.setDeviceMetricsOverride", width=360, height=740, deviceScaleFactor=2, mobile=True)
    try:
        page.run("location.hash = a", view)
        page.wait("document.querySelector('[role=tab][aria-selected=true]').innerText.toLowerCase() === a", view)
        assert page.run("return document.documentElement.scrollWidth") <= 360
    finally:
        page.cdp("Emulation.clearDeviceMetricsOverride")


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


def test_what_the_camera_shows_is_classified(page: Browser) -> None:
    page.cdp("Browser.setPermission", permission={"name": "camera"}, setting="granted")
    clear(page)
    page.click(".camera")
    page.wait("document.querySelector('video')?.videoWidth")
    page.wait(f"document.querySelector('{ANSWER}')?.innerText.trim()")
    page.click(".tools button")
    page.wait("!document.querySelector('video') && document.querySelector('img.shown')")


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
