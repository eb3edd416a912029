"""The line that declares a model's preprocessing is complete, or refused with the correct line."""

import numpy as np
import pytest

from pixelserve.imaging.declaration import Input, parse
from pixelserve.imaging.spec import Normalisation, PictureSpec
from pixelserve.imaging.words import PRESETS, DeclarationError

FLOATS = Input((3, 224, 224), "float32")
BYTES = Input((28, 28, 1), "uint8")
FREE = Input((3, -1, -1), "float32")
IMAGENET = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
FLOAT32 = np.dtype(np.float32)


def test_the_imagenet_preset_is_torchvisions_evaluation() -> None:
    assert parse("imagenet", FLOATS) == PictureSpec(
        224, 224, 3, fit="crop", resize=256, layout="nchw", dtype=FLOAT32, normalisation=IMAGENET
    )


def test_words_override_the_preset() -> None:
    spec = parse("imagenet fit=stretch scale=-1..1 colour=bgr", FLOATS)
    assert spec == PictureSpec(
        224,
        224,
        3,
        fit="stretch",
        layout="nchw",
        is_bgr=True,
        dtype=FLOAT32,
        normalisation=Normalisation((0.5,), (0.5,)),
    )


def test_a_preset_gives_a_model_that_takes_bytes_no_scale() -> None:
    spec = parse("imagenet", Input((224, 224, 3), "uint8"))
    assert (spec.normalisation, spec.resize, spec.layout) == (None, 256, "nhwc")


def test_a_preset_brings_a_size_where_the_model_leaves_it_free() -> None:
    assert (parse("vit", FREE).height, parse("vit size=180x240", FREE).width) == (224, 240)
    assert parse("mnist", Input((-1, -1, 1), "uint8")).shape == (28, 28, 1)


def test_a_crop_of_a_model_that_is_not_square_has_no_shorter_side() -> None:
    assert parse("imagenet", Input((3, 180, 240), "float32")).resize is None


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_describes_itself_as_a_line_that_means_the_same(preset: str) -> None:
    taken = Input((28, 28, 1), "uint8") if preset in ("mnist", "keras") else FLOATS
    spec = parse(preset, taken)
    assert parse(str(spec), taken) == spec


def test_numbers_are_described_to_the_last_digit() -> None:
    line = "mean=0.48500001,1e-05,.25 std=0.1234567890123,2.0,3"
    spec = parse(line, FLOATS)
    assert parse(str(spec), FLOATS) == spec
    assert spec.normalisation == Normalisation((0.48500001, 1e-05, 0.25), (0.1234567890123, 2.0, 3.0))


def test_a_line_of_all_words_describes_itself() -> None:
    line = (
        "colour=bgr layout=nchw size=224x224 fit=letterbox resampling=bicubic background=#102030 mean=0.1,0.2,0.3 std=2"
        " inversion=auto"
    )
    spec = parse(line, FREE)
    assert str(spec) == line
    assert (spec.background, spec.normalisation) == ((16, 32, 48), Normalisation((0.1, 0.2, 0.3), (2.0,)))


@pytest.mark.parametrize(
    ("line", "taken", "problem", "write"),
    [
        ("imagnet", FLOATS, 'unknown preset "imagnet"; expected one of imagenet, vit', "imagenet"),
        ("fitt=crop scale=0..1", FLOATS, '"fitt=crop" is not one of the words', "fit=crop scale=0..1"),
        ("fit=crop imagenet", FLOATS, '"imagenet" is not one of the words', "fit=crop"),
        ("fit=strech scale=0..1", FLOATS, "fit=strech: expected one of letterbox, stretch", "fit=stretch scale=0..1"),
        ("fit=centre scale=0..1", FLOATS, "fit=centre: expected one of letterbox, stretch", None),
        ("fit=crop fit=crop", FLOATS, "fit is given twice", None),
        ("", FLOATS, "the model's input is float32; set the scaling", "scale=0..1"),
        ("scale=0..1", BYTES, "the model's input is uint8, so it scales", "scale=0..255"),
        ("scale=0..1 mean=0", FLOATS, "scale excludes mean and std: write either", "mean=0"),
        ("mean=1,2 std=1", FLOATS, "mean=1,2: expected one number or three", "std=1"),
        ("std=0", FLOATS, "std=0: expected numbers above 0", ""),
        ("std=1e-300", FLOATS, "std=1e-300: expected numbers above 0", ""),
        ("mean=1e39", FLOATS, "mean=1e39: expected one number or three", ""),
        ("mean=--1", FLOATS, "mean=--1: expected one number or three", ""),
        ("mean=0.5,,0.5", FLOATS, "mean=0.5,,0.5: expected one number or three", ""),
        ("mean=inf", FLOATS, "mean=inf: expected", ""),
        ("scale=imagenet", Input((1, 28, 28), "float32"), "needs three channels", "scale=0..1"),
        ("size=225 scale=0..1", FLOATS, "the model's input is 224 × 224", "scale=0..1"),
        ("scale=0..1", FREE, "accepts pictures of any size", "scale=0..1 size=224"),
        ("size=0", FREE, "size=0: expected pixels", ""),
        ("size=99999", FREE, "at most 4,096 a side", ""),
        ("layout=nhwc scale=0..1", FLOATS, "which is nchw", "layout=nchw scale=0..1"),
        ("scale=0..1", Input((3, 224, 3), "float32"), "may be first or last: write layout=nchw or", None),
        ("keras", Input((4, 4, 2), "uint8"), "pictures have 1 or 3 channels", None),
        ("keras", Input((10,), "uint8"), r"the dimensions \[10\] besides the batch", None),
        ("colour=grey scale=0..1", FLOATS, "has 3 channels", "colour=rgb scale=0..1"),
        ("resize=256 scale=0..1", FLOATS, "resize=256 needs fit=crop", "scale=0..1"),
        ("fit=crop resize=200 scale=0..1", FLOATS, "resize=200: expected 224", "fit=crop scale=0..1"),
        ("fit=crop resize=999999 scale=0..1", FLOATS, "at most 8,192", "fit=crop scale=0..1"),
        ("fit=stretch background=black scale=0..1", FLOATS, "needs fit=letterbox", "fit=stretch scale=0..1"),
        ("background=#12345g", BYTES, "expected border, black, white", ""),
        ("resampling=area antialias=no", BYTES, "needs resampling=bilinear", "resampling=area"),
        ("fit=mnist scale=0..1", FLOATS, "needs one channel and at least", "fit=letterbox scale=0..1"),
        ("scale=0..1", Input((28, 28, 1), "int64"), "the model's input is int64", None),
        ("inversion=yes", BYTES, "inversion=yes: expected one of never, always, auto", None),
    ],
)
def test_a_wrong_line_is_refused_with_the_line_to_write(
    line: str, taken: Input, problem: str, write: str | None
) -> None:
    with pytest.raises(DeclarationError, match=problem) as caught:
        parse(line, taken)
    assert caught.value.write == write
