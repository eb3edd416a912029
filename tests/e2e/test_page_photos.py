"""A photo classifier on the page: MobileNetV2 with random weights, floats with channels first, mean and deviation."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from browser import Browser
from page_visits import AXE, IN_A_BROWSER, SHOWS, clear, hand_over, violations
from PIL import Image

from benchmarks.compare.networks import write_mobilenet_v2
from pixelserve.card import read_card
from pixelserve.imaging.declaration import Input, parse
from pixelserve.imaging.prepare import fitted, prepare
from pixelserve_training.exporting.export import Target, export_file
from pixelserve_training.runtime import OnnxModel

SPEC = parse("imagenet", Input((3, 224, 224), "float32"))
pytestmark = IN_A_BROWSER


def photo(number: int) -> Image.Image:
    """Returns a picture of 400 × 300 pixels, another for each number."""
    across, down = np.meshgrid(np.linspace(0, 1, 400), np.linspace(0, 1, 300))
    waves = [np.sin((number + 2) * (across * (channel + 1) + down)) for channel in range(3)]
    return Image.fromarray((127.5 + 127 * np.stack(waves, axis=-1)).astype(np.uint8))


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with the exported network; the labels of its six samples are no better than its weights."""
    folder = tmp_path_factory.mktemp("photos")
    write_mobilenet_v2(folder / "network" / "1" / "model.onnx")
    (folder / "labels.txt").write_text("".join(f"kind {number}\n" for number in range(1000)))
    np.savez(folder / "samples.npz", x=np.stack([prepare(photo(i), SPEC) for i in range(6)]), y=np.arange(6))
    export_file(
        folder / "network" / "1" / "model.onnx",
        # Every batch size up to it is timed at load.
        Target(folder / "models", "photos", max_batch_size=4),
        labels=folder / "labels.txt",
        samples=folder / "samples.npz",
        pixel_scale=None,
        picture="imagenet",
    )
    return folder / "models"


@pytest.fixture(scope="module")
def http(start_module_server: Callable[..., Any], repository: Path) -> str:
    """The URL of a server on that repository."""
    return str(start_module_server(repository).http)


def seen(page: Browser) -> npt.NDArray[np.uint8]:
    """Returns the pixels of the picture that the model saw, [224, 224, 3]."""
    data = page.run("""
        const canvas = document.querySelector(".seen canvas");
        const { data, width, height } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        return [width, height, [...data]];""")
    assert data[:2] == [224, 224]
    return np.array(data[2], np.uint8).reshape(224, 224, 4)[..., :3]


def test_a_photo_that_is_dropped_is_answered_and_shown_as_the_model_saw_it(page: Browser, repository: Path) -> None:
    model = OnnxModel(repository / "photos" / "1" / "model.onnx", source="photos")
    best = model.run({"x": prepare(photo(7), SPEC)[None]})["y"].argmax()
    buffer = io.BytesIO()
    photo(7).save(buffer, "PNG")
    clear(page)
    hand_over(page, "photo.png", buffer.getvalue())
    page.wait(SHOWS, f"kind {best}")
    np.testing.assert_array_equal(seen(page), np.rint(fitted(photo(7), SPEC)).astype(np.uint8))
    # Five classes and the others.
    assert page.run("return document.querySelectorAll('.bars tr').length") == 6
    assert "224 × 224 pixels, rgb, middle cropped, bilinear" in page.text(".seen")


def test_the_strip_has_the_golden_samples_as_pictures(page: Browser) -> None:
    # Of 602,112 bytes each, three are kept.
    page.wait("document.querySelectorAll('.strip canvas').length === 3")
    # They are painted, in one go with their size, after they are there.
    page.wait("document.querySelector('.strip canvas').width === 224")
    shown = page.run("""
        const canvas = document.querySelector(".strip canvas");
        return [...canvas.getContext("2d").getImageData(0, 0, 224, 224).data];""")
    levels = np.rint(fitted(photo(0), SPEC)).astype(np.uint8)
    np.testing.assert_array_equal(np.array(shown, np.uint8).reshape(224, 224, 4)[..., :3], levels)
    page.press("s")
    page.wait("document.querySelector('.strip [aria-pressed=true]')")


def test_trust_has_no_matrix_of_a_thousand_classes(page: Browser, repository: Path) -> None:
    page.press("2")
    page.wait("document.querySelector('.headline')")
    page.wait("document.querySelector('.errors')")
    evaluation = read_card(repository / "photos" / "1" / "card.json").evaluation
    assert evaluation is not None
    assert evaluation.confusion is None
    assert page.run("return document.querySelector('.confusion')") is None
    errors = len(evaluation.surest_errors)
    assert errors >= 5
    pictures = "[...document.querySelectorAll('.errors img')]"
    page.wait(f"{pictures}.filter((each) => each.naturalWidth === 32).length === a", errors)
    if AXE.is_file():
        assert violations(page) == []
