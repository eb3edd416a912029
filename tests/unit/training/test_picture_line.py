"""An exported model declares its pictures: as asked, or as its framework does it."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pixelserve_training.errors import UsageError
from pixelserve_training.exporting.picture_line import picture_line


def model(*shape: int, dtype: Any = np.uint8, inputs: int = 1) -> Any:
    return SimpleNamespace(inputs=[SimpleNamespace(shape=shape, dtype=np.dtype(dtype))] * inputs)


PIXELS, FLOATS = model(-1, 32, 32, 3), model(-1, 3, 224, 224, dtype=np.float32)


def test_what_is_asked_for_is_written_as_it_is() -> None:
    assert picture_line("imagenet fit=stretch", FLOATS, is_keras=False) == "imagenet fit=stretch"


def test_a_keras_model_is_assumed_to_stretch_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert picture_line(None, PIXELS, is_keras=True) == "keras"
    assert "assumed --picture keras" in capsys.readouterr().err


def test_an_onnx_file_of_floats_has_to_be_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert picture_line(None, FLOATS, is_keras=False) == ""
    assert "say with --picture" in capsys.readouterr().err


@pytest.mark.parametrize("other", [PIXELS, model(-1, 10, dtype=np.float32), model(-1, 4, inputs=2)])
def test_of_anything_else_nothing_is_said(other: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert picture_line(None, other, is_keras=False) == ""
    assert not capsys.readouterr().err


@pytest.mark.parametrize(
    ("asked", "other", "said"),
    [
        ("imagnet", FLOATS, r'--picture "imagnet": there is no preset .*; write --picture "imagenet"$'),
        ("fit=crop", FLOATS, r'say which numbers it was trained on.*; write --picture "fit=crop scale=0..1"$'),
        ("vit", model(-1, 4, inputs=2), "--picture is for models with one input"),
    ],
)
def test_a_wrong_line_is_refused_before_anything_is_written(asked: str, other: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        picture_line(asked, other, is_keras=False)
