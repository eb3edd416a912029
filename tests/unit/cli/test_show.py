"""`pixelserve show`: a picture beside the bars of its classes, in the terminal and as a PNG file."""

import importlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from pixelserve.cli import drawn
from pixelserve.client import Class
from pixelserve.v1 import classifier_pb2 as pb

# Light above dark, then dark above light; the right column is half as light.
SEEN = np.array([[255, 128], [0, 0], [0, 0], [255, 128]], np.uint8)[..., None]
FULL = "█" * 24


@pytest.fixture(scope="module", autouse=True)
def _drawing_is_loaded() -> None:
    """Loads Matplotlib, so that no test's time is that of its import."""
    importlib.import_module("pixelserve_training.report.shown")


@pytest.fixture
def seeing(fake: Any) -> Any:
    """A server that returns what the model saw."""

    def result(image: pb.Image, top_k: int) -> pb.Result:
        if image.encoded == b"broken":
            return pb.Result(error="this is not a picture")
        classes = [pb.Class(label="cat", probability=0.75), pb.Class(label="dog", probability=0.25)]
        seen = pb.RawPixels(height=4, width=2, channels=1, data=SEEN.tobytes())
        return pb.Result(classes=classes[:top_k], seen=seen)

    fake.result = result
    return fake


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    (tmp_path / "photo.png").write_text("4")
    return tmp_path / "photo.png"


def test_the_picture_stands_beside_the_bars(ask: Callable[..., Any], seeing: Any, photo: Path) -> None:
    ran = ask("show", photo, "--model", "digits")
    assert ran.code == 0
    first, second, sentence = ran.out.splitlines()
    assert first == f"▒░  cat  {'█' * 18}        75.00%"
    assert second == f"▒░  dog  {'█' * 6}                    25.00%"
    assert sentence == f"{photo}: cat 75.00%, digits version 1"
    assert seeing.requests[0].return_seen


def test_as_many_classes_are_drawn_as_were_asked_for(ask: Callable[..., Any], seeing: Any, photo: Path) -> None:
    ran = ask("show", photo, "--model", "digits", "--top", 1, "--inversion", "always", "--model-version", "3")
    assert "dog" not in ran.out
    request = seeing.requests[0]
    assert (request.top_k, request.version, request.inversion) == (1, "3", pb.INVERSION_ALWAYS)


def test_bars_are_drawn_without_a_picture_if_the_server_returns_none(
    ask: Callable[..., Any], fake: Any, photo: Path
) -> None:
    ran = ask("show", photo, "--model", "digits")
    assert ran.code == 0
    assert ran.out.splitlines()[0].split() == ["4", "█" * 18, "75.00%"]


def test_colours_show_two_pixels_per_character() -> None:
    screen = Console(color_system="truecolor", force_terminal=True, width=80)
    with screen.capture() as captured:
        screen.print(drawn.picture(np.uint8([[[255, 0, 0]], [[0, 0, 255]], [[1, 2, 3]]]), screen))
    first, last = captured.get().splitlines()
    assert first == "\x1b[38;2;255;0;0;48;2;0;0;255m▀\x1b[0m"
    # An odd height has its last line twice.
    assert last == "\x1b[38;2;1;2;3;48;2;1;2;3m▀\x1b[0m"


@pytest.mark.parametrize(
    ("shape", "expected"), [((224, 224, 3), (32, 32)), ((28, 28, 1), (28, 28)), ((40, 80, 1), (16, 32))]
)
def test_large_pictures_shrink_to_a_few_lines(shape: tuple[int, int, int], expected: tuple[int, int]) -> None:
    assert drawn.shrunk(np.zeros(shape, np.uint8), 32).shape[:2] == expected


def test_a_shrunk_pixel_is_the_mean_of_those_it_stands_for() -> None:
    levels = np.arange(16, dtype=np.uint8).reshape(4, 4, 1)
    assert drawn.shrunk(levels, 2)[..., 0].tolist() == [[2, 4], [10, 12]]
    # 5 pixels become 2: the first two, and the last three.
    assert drawn.shrunk(np.uint8([[10, 20, 30, 40, 50]])[..., None], 2)[..., 0].tolist() == [[15, 40]]


def rendered(*classes: Class) -> list[list[str]]:
    screen = Console(width=80)
    with screen.capture() as captured:
        screen.print(drawn.bars(classes, screen))
    return [line.split() for line in captured.get().splitlines()]


def test_scores_have_bars_relative_to_the_best_one() -> None:
    scores = (8.0, 4.0, -2.0, math.nan)
    assert rendered(*(Class(f"class-{score:g}", 0, None, score) for score in scores)) == [
        ["class-8", FULL, "8"],
        ["class-4", "█" * 12, "4"],
        ["class--2", "-2"],
        ["class-nan", "nan"],
    ]


def test_scores_below_0_have_no_bars() -> None:
    assert rendered(Class("a", 0, None, -1.0), Class("b", 1, None, -2.0)) == [["a", "-1"], ["b", "-2"]]


@pytest.mark.slow
def test_the_drawing_can_be_written_as_a_png_file(ask: Callable[..., Any], seeing: Any, photo: Path) -> None:
    target = photo.with_name("bars.png")
    target.write_text("an earlier one")
    ran = ask("show", photo, "--model", "digits", "--to", target)
    assert (ran.code, ran.out) == (0, f"{photo}: cat 75.00%, digits version 1; drawn in {target}\n")
    with Image.open(target) as image:
        assert image.format == "PNG"
        assert min(image.size) > 300
    assert sorted(path.name for path in photo.parent.iterdir()) == ["bars.png", "photo.png"]


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("bars.jpg", "give a name that ends in .png"),
        ("photo.png", "is the picture itself"),
        ("missing/bars.png", "cannot be written: No such file or directory"),
    ],
)
def test_a_file_that_cannot_be_drawn_into_is_refused(
    ask: Callable[..., Any], seeing: Any, photo: Path, target: str, told: str
) -> None:
    ran = ask("show", photo, "--model", "digits", "--to", photo.parent / target)
    assert ran.code == 2
    assert told in " ".join(ran.err.split())
    assert [path.name for path in photo.parent.iterdir()] == ["photo.png"]


def test_a_picture_that_cannot_be_read_is_named(ask: Callable[..., Any], seeing: Any, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_text("broken")
    ran = ask("show", tmp_path / "broken.png", "--model", "digits")
    assert (ran.code, ran.out) == (10, "")
    assert ran.err == f"pixelserve: {tmp_path / 'broken.png'}: this is not a picture\n"


def test_a_missing_library_is_known_before_the_server_is_asked(
    ask: Callable[..., Any], fake: Any, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(name: str) -> Any:
        raise ModuleNotFoundError("No module named 'matplotlib'", name="matplotlib")

    monkeypatch.setattr(importlib, "import_module", fail)
    ran = ask("show", photo, "--model", "digits", "--to", photo.with_name("bars.png"))
    assert ran.code == 3
    assert "needs the library matplotlib" in ran.err
    assert "[training]" in ran.err
    assert not fake.requests


def test_a_label_cannot_control_the_terminal(ask: Callable[..., Any], fake: Any, photo: Path) -> None:
    fake.result = lambda image, top_k: pb.Result(classes=[pb.Class(label="\x1b[31mcat", probability=1)])
    # Once in the bars, once in the sentence.
    assert ask("show", photo, "--model", "digits").out.count(r"\x1b[31mcat") == 2
