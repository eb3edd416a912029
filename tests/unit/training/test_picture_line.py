"""An exported model declares its preprocessing: as given, or its framework's."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pixelserve_training.errors import UsageError
from pixelserve_training.exporting.picture_line import asked_line, picture_line, served_pictures


def model(*shape: int, dtype: Any = np.uint8, inputs: int = 1, outputs: int = 1) -> Any:
    taken, given = (
        SimpleNamespace(shape=shape, dtype=np.dtype(dtype)),
        SimpleNamespace(shape=(-1, 5), dtype=np.dtype("f4")),
    )
    return SimpleNamespace(inputs=[taken] * inputs, outputs=[given] * outputs)


PIXELS, FLOATS = model(-1, 32, 32, 3), model(-1, 3, 224, 224, dtype=np.float32)


def test_what_is_asked_for_is_written_as_it_is() -> None:
    assert picture_line("imagenet fit=stretch", FLOATS, is_keras=False) == "imagenet fit=stretch"


def test_a_keras_model_is_assumed_to_stretch_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert picture_line(None, PIXELS, is_keras=True) == "keras"
    assert "assumed --picture keras" in capsys.readouterr().err


def test_an_onnx_file_of_floats_has_to_be_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert picture_line(None, FLOATS, is_keras=False) == ""
    assert "give its image preprocessing with --picture" in capsys.readouterr().err


@pytest.mark.parametrize("other", [PIXELS, model(-1, 10, dtype=np.float32), model(-1, 4, inputs=2)])
def test_of_anything_else_nothing_is_said(other: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert picture_line(None, other, is_keras=False) == ""
    assert not capsys.readouterr().err


@pytest.mark.parametrize(
    ("asked", "other", "said"),
    [
        ("imagnet", FLOATS, r'--picture "imagnet": unknown preset .*; write --picture "imagenet"$'),
        ("fit=crop", FLOATS, r'set the scaling of its training.*; write --picture "fit=crop scale=0..1"$'),
        ("vit", model(-1, 4, inputs=2), "--picture is for models with one input"),
    ],
)
def test_a_wrong_line_is_refused_before_anything_is_written(asked: str, other: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        picture_line(asked, other, is_keras=False)


def test_flags_are_further_words_of_the_line() -> None:
    flags = {"fit": "stretch", "mean": "-0.5"}
    assert asked_line(None, {}, is_keras=True) is None
    assert asked_line("imagenet", {}, is_keras=False) == "imagenet"
    assert asked_line("imagenet", flags, is_keras=False) == "imagenet fit=stretch mean=-0.5"
    assert asked_line(None, flags, is_keras=False) == "fit=stretch mean=-0.5"
    assert asked_line(" vit  size=224 ", {"size": "224x224"}, is_keras=True) == "vit size=224"


def test_flags_without_a_line_change_what_is_assumed_of_keras_models(capsys: pytest.CaptureFixture[str]) -> None:
    assert asked_line(None, {"fit": "crop"}, is_keras=True) == "keras fit=crop"
    assert "assumed --picture keras: pictures are stretched, as Keras's loaders do, but for --fit;" in (
        capsys.readouterr().err
    )


def test_scaling_of_a_keras_model_is_offered_in_the_graph(capsys: pytest.CaptureFixture[str]) -> None:
    assert asked_line("vit", {"scale": "0..1"}, is_keras=True) == "vit scale=0..1"
    assert "with --pixel-scale instead of --scale" in capsys.readouterr().err
    asked_line("vit", {"fit": "crop"}, is_keras=True)
    asked_line("vit", {"scale": "0..1"}, is_keras=False)
    assert not capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "flags", "said"),
    [
        ("fit=crop", {"fit": "letterbox"}, r'fit=crop, but --fit is letterbox: .*write --picture "fit=letterbox"$'),
        ("vit size=224", {"size": "180x240"}, r'but --size is 180x240: .*write --picture "vit size=180x240"$'),
        ("imagnet", {"fit": "crop"}, r'unknown preset "imagnet".*; write --picture "imagenet"$'),
    ],
)
def test_flags_that_contradict_the_line_are_refused(line: str, flags: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        asked_line(line, flags, is_keras=False)


def written(folder: Path, picture: str, more: str = "") -> Path:
    path = folder / "config.pbtxt"
    path.write_text(f'parameters {{ key: "picture" value {{ string_value: "{picture}" }} }} {more}')
    return path


@pytest.mark.parametrize(
    ("line", "served", "expected"),
    [
        ("imagenet", FLOATS, "fit=crop resize=256"),
        ("keras", PIXELS, "fit=stretch resampling=bilinear antialias=no"),
        ("", PIXELS, "fit=letterbox"),
        ("", FLOATS, None),
        ("", model(-1, 10, dtype=np.float32), None),
        ("", model(-1, 32, 32, 3, inputs=2), None),
        ("keras", model(-1, 32, 32, 3, outputs=2), None),
    ],
)
def test_the_card_says_what_pictures_a_server_will_take(
    tmp_path: Path, line: str, served: Any, expected: str | None
) -> None:
    spec = served_pictures(line, served, None, tmp_path / "config.pbtxt", asked=False)
    assert (spec is None) if expected is None else (expected in str(spec))


def test_labels_tell_which_of_several_outputs_are_scores(tmp_path: Path) -> None:
    spec = served_pictures("", model(-1, 32, 32, 3, outputs=2), "scores", tmp_path / "config.pbtxt", asked=False)
    assert spec is not None


def test_what_is_on_disk_is_what_all_versions_are_served_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, "fit=crop", 'parameters { key: "inversion" value { string_value: "auto" } }')
    spec = served_pictures("keras", PIXELS, None, path, asked=False)
    assert spec is not None
    assert (spec.fit, spec.inversion) == ("crop", "auto")
    assert (
        'says picture "fit=crop", not "keras"; all versions share it, so it stays unchanged' in capsys.readouterr().err
    )


def test_another_line_than_the_one_on_disk_is_refused_if_the_user_gave_it(tmp_path: Path) -> None:
    path = written(tmp_path, "fit=crop")
    with pytest.raises(
        UsageError, match=r'config\.pbtxt says picture "fit=crop", not "keras".*change it there, or export'
    ):
        served_pictures("keras", PIXELS, None, path, asked=True)
    assert served_pictures("fit=crop", PIXELS, None, path, asked=True) is not None


def test_a_line_on_disk_that_no_server_takes_makes_no_golden_picture(tmp_path: Path) -> None:
    assert served_pictures("keras", PIXELS, None, written(tmp_path, "fit=cropped"), asked=False) is None
