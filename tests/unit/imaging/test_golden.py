"""A golden image shows that files still decode to the tensors of the export."""

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pixelserve.card import CardError
from pixelserve.golden import GoldenMismatchError
from pixelserve.golden_picture import GoldenPicture, read_golden_picture, write_golden_picture
from pixelserve.imaging import fit
from pixelserve.imaging.declaration import Input, parse, undeclared
from pixelserve.imaging.golden import make, replay
from pixelserve.imaging.spec import PictureSpec

DECLARED = {
    "mnist": ("mnist", (28, 28, 1), "uint8"),
    "keras": ("keras", (32, 32, 3), "uint8"),
    "imagenet": ("imagenet", (3, 64, 64), "float32"),
    "float levels": ("keras scale=0..255", (32, 32, 3), "float32"),
    "half": ("vit colour=bgr", (3, 64, 64), "float16"),
    "double": ("fit=letterbox background=#102030 scale=0..1", (24, 40, 1), "float64"),
    "free size": ("fit=crop size=48x32 mean=0.4914008 std=0.2", (-1, -1, 3), "float32"),
}
SPEC = parse("fit=stretch", Input((16, 16, 3), "uint8"))


def declared(name: str) -> PictureSpec:
    line, dims, dtype = DECLARED[name]
    return parse(line, Input(dims, dtype))


def made(spec: PictureSpec = SPEC) -> GoldenPicture:
    golden = make(spec)
    assert golden is not None
    return golden


@pytest.mark.parametrize("name", DECLARED)
def test_a_golden_picture_is_the_same_each_time_and_replays(tmp_path: Path, name: str) -> None:
    spec, path = declared(name), tmp_path / "golden-picture.npz"
    golden = made(spec)
    assert golden.file == made(spec).file
    write_golden_picture(path, golden)
    read = read_golden_picture(path)
    replay(read, spec)
    assert read.file == golden.file
    np.testing.assert_array_equal(read.tensor, golden.tensor)


@pytest.mark.parametrize("name", DECLARED)
def test_the_canonical_line_declares_the_same_pictures(name: str) -> None:
    line, dims, dtype = DECLARED[name]
    told = str(parse(line, Input(dims, dtype)))
    assert str(parse(told, Input(dims, dtype))) == told


@pytest.mark.parametrize("name", DECLARED)
def test_one_level_is_accepted_and_two_are_not(name: str) -> None:
    spec = declared(name)
    golden = made(spec)
    level = np.array(255 if spec.normalisation is None else np.asarray(spec.normalisation.std) * 255)
    step = (
        255 / level if spec.layout == "nhwc" else np.reshape(255 / level, (-1, 1, 1)) * np.ones((spec.channels, 1, 1))
    )
    for levels, is_accepted in ((1, True), (2, False)):
        tensor = (golden.tensor + levels * step / (1 if spec.normalisation is None else 255)).astype(spec.dtype)
        changed = GoldenPicture(golden.file, np.where(golden.tensor < 250, tensor, golden.tensor).astype(spec.dtype))
        if is_accepted:
            replay(changed, spec)
        else:
            with pytest.raises(GoldenMismatchError, match=r"by up to [12][.\d]* of 255 levels; at most 1 is accepted"):
                replay(changed, spec)


def test_a_filter_that_computes_something_else_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    golden = made()
    monkeypatch.setitem(fit._FILTERS, "bilinear", Image.Resampling.BICUBIC)
    with pytest.raises(GoldenMismatchError, match=r"differs from the export by.*Pillow release in the card"):
        replay(golden, SPEC)


@pytest.mark.parametrize("words", ["fit=letterbox", "fit=stretch antialias=no", "fit=stretch colour=bgr", "fit=crop"])
def test_another_declaration_comes_out_otherwise(words: str) -> None:
    with pytest.raises(GoldenMismatchError):
        replay(made(), parse(words, Input((16, 16, 3), "uint8")))


def test_no_golden_picture_is_made_whose_tensor_would_be_too_large_to_be_read() -> None:
    assert make(parse("imagenet size=2048", Input((3, -1, -1), "float32"))) is None


def test_an_input_that_nothing_is_declared_of_takes_pictures_if_it_is_bytes_of_fixed_size() -> None:
    assert undeclared(Input((8, 9, 3), "uint8")) == PictureSpec(8, 9, 3)
    for other in (
        Input((8, 9, 3), "float32"),
        Input((8, -1, 3), "uint8"),
        Input((3, 8, 9), "uint8"),
        Input((9,), "uint8"),
    ):
        assert undeclared(other) is None


def encoded(image: Image.Image) -> np.ndarray[Any, Any]:
    file = io.BytesIO()
    image.save(file, "PNG")
    return np.frombuffer(file.getvalue(), np.uint8)


BYTES = np.zeros(4, np.uint8)


@pytest.mark.parametrize(
    ("write", "said"),
    [
        pytest.param(lambda path: path.write_bytes(b"PK"), "cannot be read as a golden picture", id="damaged"),
        pytest.param(lambda path: path.mkdir(), "it is not a file", id="a folder"),
        pytest.param(
            lambda path: np.savez_compressed(path, picture=BYTES, tensor=np.zeros(9 << 20, np.uint8)),
            "unpacks to 9,.* bytes; at most 8,388,608 are read",
            id="unpacks to too much",
        ),
        pytest.param(lambda path: np.savez(path, picture=BYTES), "expected the arrays", id="no tensor"),
        pytest.param(
            lambda path: np.savez(path, picture=BYTES, tensor=BYTES, more=BYTES),
            "expected the arrays",
            id="one too many",
        ),
        pytest.param(lambda path: np.savez(path, picture=BYTES, tensor=["a"]), "expected the arrays", id="text"),
        pytest.param(
            lambda path: np.savez(path, picture=np.zeros(4), tensor=BYTES),
            "expected the arrays",
            id="a picture of floats",
        ),
    ],
)
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, write: Callable[[Path], object], said: str) -> None:
    path = tmp_path / "golden-picture.npz"
    write(path)
    with pytest.raises(CardError, match=rf"{re.escape(str(path))}.*{said}.*export the model again"):
        read_golden_picture(path)


@pytest.mark.parametrize(
    ("file", "said"),
    [
        pytest.param(np.frombuffer(b"<html>", np.uint8), "the golden picture: .*HTML", id="not a picture"),
        pytest.param(BYTES[:0], "the golden picture: ", id="nothing"),
        pytest.param(encoded(Image.new("1", (1025, 1024))), "1,049,600 pixels; at most 1,048,576", id="a huge picture"),
        pytest.param(encoded(Image.new("L", (40, 40)))[:50], "the golden picture: .*damaged", id="cut off"),
    ],
)
def test_a_picture_that_cannot_be_decoded_is_refused(file: Any, said: str) -> None:
    with pytest.raises(CardError, match=f"{said}.*export the model again, or remove the file"):
        replay(GoldenPicture(file.tobytes(), made().tensor), SPEC)


@pytest.mark.parametrize(
    "tensor",
    [
        pytest.param(np.zeros((16, 16, 1), np.uint8), id="other channels"),
        pytest.param(np.zeros((16, 16, 3), np.float32), id="another type"),
        pytest.param(np.zeros((0, 16, 3), np.uint8), id="empty"),
        pytest.param(np.zeros((), np.uint8), id="one number"),
    ],
)
def test_a_tensor_for_another_input_is_refused(tensor: Any) -> None:
    with pytest.raises(CardError, match=r"tensor is .*, but the model's input is uint8 \[16, 16, 3\]"):
        replay(GoldenPicture(made().file, tensor), SPEC)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e308])
def test_numbers_that_no_picture_has_are_a_mismatch(value: float) -> None:
    spec = parse("fit=stretch scale=0..1", Input((16, 16, 3), "float64"))
    golden = made(spec)
    tensor = golden.tensor.copy()
    tensor[3, 4, 1] = value
    with pytest.raises(GoldenMismatchError):
        replay(GoldenPicture(golden.file, tensor), spec)
