"""Keras models converted to accept images: scaling layers, sizes, and a fixed batch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelserve.golden import read_golden
from pixelserve_training.errors import SamplesError, UsageError
from pixelserve_training.exporting.export import Exported, Target, export_file
from pixelserve_training.runtime import OnnxModel

Command = Callable[..., Any]
Own = Any

# Keras saves weights in a way that NumPy will not take much longer.
_KERAS_WARNING = "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings(_KERAS_WARNING)]

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)


def _export(path: Path, **options: Any) -> Exported:
    given = {"labels": None, "samples": None, "pixel_scale": None} | options
    return export_file(path, Target(path.parent / "models", path.stem), **given)


def _served(exported: Exported, inputs: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    model = OnnxModel((exported.slot.folder / "model.onnx").read_bytes(), source="model.onnx")
    (output,) = model.run({model.inputs[0].name: inputs}).values()
    return output


def _network(keras: Any, *first: Any, shape: tuple[int | None, ...] = (8, 8, 3)) -> Any:
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input(shape),
            *first,
            layers.Conv2D(4, 3, padding="same"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(2),
        ]
    )


def _augmented(keras: Any) -> list[Any]:
    layers = keras.layers
    return [layers.RandomFlip("horizontal"), layers.RandomRotation(0.1), layers.Rescaling(1 / 255)]


def _adapted(keras: Any) -> list[Any]:
    layer = keras.layers.Normalization()
    layer.adapt(PIXELS.astype(np.float32))
    return [layer]


def _preprocessed(keras: Any, application: str) -> Any:
    image = keras.Input((8, 8, 3))
    scaled = getattr(keras.applications, application).preprocess_input(image)
    return keras.Model(image, keras.layers.Dense(2)(keras.layers.Flatten()(keras.layers.Conv2D(4, 3)(scaled))))


SCALING: dict[str, Callable[[Any], Any]] = {
    "augmentation and Rescaling": lambda keras: _network(keras, *_augmented(keras)),
    "a nested model": lambda keras: _network(keras, keras.Sequential([keras.Input((8, 8, 3)), *_augmented(keras)])),
    "-1 to 1": lambda keras: _network(keras, keras.layers.Rescaling(1 / 127.5, offset=-1)),
    "Normalization of pixels": lambda keras: _network(keras, *_adapted(keras)),
    "mobilenet_v2's preprocess_input": lambda keras: _preprocessed(keras, "mobilenet_v2"),
    "resnet50's preprocess_input": lambda keras: _preprocessed(keras, "resnet50"),
    "densenet's preprocess_input": lambda keras: _preprocessed(keras, "densenet"),
}


@pytest.mark.parametrize("name", SCALING)
def test_a_model_that_scales_pixels_itself_takes_pictures(keras: Any, tmp_path: Path, name: str, capsys: Any) -> None:
    model = SCALING[name](keras)
    model.save(tmp_path / "own.keras")
    exported = _export(tmp_path / "own.keras")
    assert exported.inputs == ["image uint8 [-1, 8, 8, 3]"]
    assert "its first layers scale pixels" in capsys.readouterr().err
    expected = np.asarray(model(PIXELS.astype(np.float32), training=False))
    np.testing.assert_allclose(_served(exported, PIXELS), expected, rtol=1e-4, atol=1e-4)


def test_a_saved_model_that_scales_pixels_itself_takes_pictures(keras: Any, tmp_path: Path) -> None:
    model = _network(keras, keras.layers.Rescaling(1 / 255))
    model.export(tmp_path / "own", verbose=False)
    exported = _export(tmp_path / "own")
    assert exported.inputs == ["image uint8 [-1, 8, 8, 3]"]
    np.testing.assert_allclose(_served(exported, PIXELS), model(PIXELS.astype(np.float32)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "statistics",
    [
        {"mean": 0.5, "variance": 0.08},  # of pixels divided by 255
        {"mean": -40.0, "variance": 400.0},  # of a spectrogram in decibels
        {"mean": 2000.0, "variance": 250_000.0},  # of 12 bits
        None,
    ],
)
def test_a_model_of_other_numbers_keeps_its_floats_and_says_how_pictures_go(
    keras: Any, tmp_path: Path, statistics: dict[str, float] | None, capsys: Any
) -> None:
    first = [keras.layers.Normalization(axis=None, **statistics)] if statistics else []
    _network(keras, *first, shape=(8, 8, 1)).save(tmp_path / "own.keras")
    assert _export(tmp_path / "own.keras").inputs == ["image float32 [-1, 8, 8, 1]"]
    assert "1/255 for 0 to 1" in capsys.readouterr().err


def test_a_float_model_whose_pictures_are_declared_gets_no_note_that_it_takes_none(
    keras: Any, tmp_path: Path, capsys: Any
) -> None:
    _network(keras).save(tmp_path / "own.keras")
    exported = _export(tmp_path / "own.keras", words={"scale": "0..1"})
    assert exported.card.picture == (
        "colour=rgb layout=nhwc size=8x8 fit=stretch resampling=bilinear antialias=no mean=0 std=1"
    )
    assert "no pictures" not in capsys.readouterr().err


def test_none_as_pixel_scale_keeps_floats(pixelserve: Command, keras: Any, tmp_path: Path) -> None:
    _network(keras, keras.layers.Rescaling(1 / 255)).save(tmp_path / "own.keras")
    options = ("--name", "own", "--pixel-scale", "none", "--to", tmp_path / "models")
    ran = pixelserve("export", tmp_path / "own.keras", *options)
    assert ran.exit_code == 0, ran.err
    assert "image float32 [-1, 8, 8, 3]" in ran.out


def test_a_pixel_scale_may_have_an_offset(pixelserve: Command, keras: Any, tmp_path: Path) -> None:
    """As Teachable Machine has it: pixels divided by 127.5, minus 1, outside of the model."""
    model = _network(keras)
    model.save(tmp_path / "own.keras")
    np.savez(tmp_path / "samples.npz", x=PIXELS)
    options = ("--name", "own", "--samples", tmp_path / "samples.npz", "--pixel-scale", "1/127.5-1", "--to", tmp_path)
    ran = pixelserve("export", tmp_path / "own.keras", *options)
    assert ran.exit_code == 0, ran.err
    exported = OnnxModel((tmp_path / "own" / "1" / "model.onnx").read_bytes(), source="model.onnx")
    expected = np.asarray(model(PIXELS / np.float32(127.5) - 1))
    np.testing.assert_allclose(exported.run({"image": PIXELS})["output"], expected, atol=1e-5)


@pytest.mark.parametrize(("scale", "is_twice"), [(1 / 255, True), (1.0, False)])
def test_pixels_that_are_scaled_twice_are_mentioned(
    keras: Any, tmp_path: Path, capsys: Any, scale: float, is_twice: bool
) -> None:
    _network(keras, keras.layers.Rescaling(1 / 127.5, offset=-1)).save(tmp_path / "own.keras")
    assert _export(tmp_path / "own.keras", pixel_scale=scale).inputs == ["image uint8 [-1, 8, 8, 3]"]
    assert ("after --pixel-scale; omit the option" in capsys.readouterr().err) == is_twice


def test_pixels_that_are_scaled_once_are_not_mentioned(keras: Any, tmp_path: Path, capsys: Any) -> None:
    _network(keras).save(tmp_path / "own.keras")
    _export(tmp_path / "own.keras", pixel_scale=1 / 255)
    assert "scales pixels" not in capsys.readouterr().err


@pytest.mark.parametrize("inside", [True, False])
def test_rows_of_a_grey_picture_get_an_axis_of_channels(keras: Any, tmp_path: Path, inside: bool) -> None:
    layers = keras.layers
    scaling = [layers.Rescaling(1 / 255)] if inside else []
    # Unlike a Flatten, this needs the axes that it was trained with.
    model = keras.Sequential([keras.Input((8, 6)), *scaling, layers.SimpleRNN(4), layers.Dense(3)])
    model.save(tmp_path / "own.keras")
    grey = PIXELS[:, :, :6, 0]
    np.savez(tmp_path / "samples.npz", x=grey)
    exported = _export(
        tmp_path / "own.keras", samples=tmp_path / "samples.npz", pixel_scale=None if inside else 1 / 255
    )
    assert exported.inputs == ["image uint8 [-1, 8, 6, 1]"]
    expected = np.asarray(model(grey.astype(np.float32) / (1 if inside else 255)))
    np.testing.assert_allclose(_served(exported, grey[..., np.newaxis]), expected, rtol=1e-4, atol=1e-4)


def test_a_series_of_normalised_measurements_is_no_picture(keras: Any, tmp_path: Path) -> None:
    layers = keras.layers
    series = [keras.Input((20, 9)), layers.Normalization(mean=100.0, variance=2500.0), layers.LSTM(2), layers.Dense(2)]
    keras.Sequential(series).save(tmp_path / "own.keras")
    assert _export(tmp_path / "own.keras").inputs == ["features float32 [-1, 20, 9]"]


def test_rows_of_pixels_become_pictures_of_the_size_that_is_given(keras: Any, tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((48,)), keras.layers.Dense(3)])
    model.save(tmp_path / "own.keras")
    grey = PIXELS[:, :, :6, :1]
    np.savez(tmp_path / "samples.npz", x=grey.reshape(5, 48))
    options = {"samples": tmp_path / "samples.npz", "pixel_scale": 1 / 255}
    exported = _export(tmp_path / "own.keras", size=(8, 6, 1), **options)
    assert exported.inputs == ["image uint8 [-1, 8, 6, 1]"]
    expected = np.asarray(model(grey.reshape(5, 48) / np.float32(255)))
    np.testing.assert_allclose(_served(exported, grey), expected, rtol=1e-4, atol=1e-4)
    model.save(tmp_path / "other.keras")
    assert _export(tmp_path / "other.keras", size=(4, 4), pixel_scale=1 / 255).inputs == ["image uint8 [-1, 4, 4, 3]"]


def test_rows_of_a_square_number_of_pixels_are_told_their_option(keras: Any, tmp_path: Path, capsys: Any) -> None:
    for pixels, reason in ((784, "give --size 28x28x1"), (192, "give --size 8x8x3"), (48, "give --size 4x4x3")):
        keras.Sequential([keras.Input((pixels,)), keras.layers.Dense(3)]).save(tmp_path / f"own{pixels}.keras")
        exported = _export(tmp_path / f"own{pixels}.keras", pixel_scale=1 / 255)
        assert exported.inputs == [f"features uint8 [-1, {pixels}]"]
        assert reason in capsys.readouterr().err


def test_a_classifier_of_any_size_needs_one_for_pictures(keras: Any, tmp_path: Path) -> None:
    model = _network(keras, keras.layers.Rescaling(1 / 255), shape=(None, None, 3))
    model.save(tmp_path / "own.keras")
    with pytest.raises(UsageError, match="takes pictures of any size; give the size"):
        _export(tmp_path / "own.keras")
    exported = _export(tmp_path / "own.keras", size=(8, 8))
    assert exported.inputs == ["image uint8 [-1, 8, 8, 3]"]
    np.testing.assert_allclose(_served(exported, PIXELS), model(PIXELS.astype(np.float32)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("shape", "size", "reason"),
    [
        ((8, 8, 3), (9, 9), "--size 9x9: .* takes 8x8x3"),
        ((None, None, 3), (8, 8, 1), "--size 8x8x1: .* takes anyxanyx3"),
        ((50,), (7, 7), "takes rows of 50 numbers"),
    ],
)
def test_a_size_that_does_not_fit_is_refused(
    keras: Any, tmp_path: Path, shape: tuple[int | None, ...], size: tuple[int, ...], reason: str
) -> None:
    model = keras.Sequential([keras.Input(shape), keras.layers.Dense(2)])
    model.save(tmp_path / "own.keras")
    with pytest.raises(UsageError, match=reason):
        _export(tmp_path / "own.keras", size=size, pixel_scale=1.0)


@pytest.mark.parametrize("rows", [1, 4])
def test_a_batch_that_was_baked_in_becomes_free(keras: Any, tmp_path: Path, rows: int, capsys: Any) -> None:
    model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(3)])
    model(np.zeros((rows, 8, 8, 3), np.float32))
    model.save(tmp_path / "own.keras")
    exported = _export(tmp_path / "own.keras", pixel_scale=1 / 255)
    assert exported.inputs == ["image uint8 [-1, 8, 8, 3]"]
    assert f"its batch of {rows} was made free" in capsys.readouterr().err
    expected = np.asarray(model(PIXELS / np.float32(255)))
    np.testing.assert_allclose(_served(exported, PIXELS), expected, rtol=1e-4, atol=1e-4)


def test_a_batch_that_the_layers_mix_stays_as_it_is(keras: Any, tmp_path: Path, capsys: Any) -> None:
    image = keras.Input(batch_shape=(2, 8, 8, 3))
    flat = keras.layers.Flatten()(image)
    mixed = flat - keras.ops.mean(flat, axis=0, keepdims=True)
    keras.Model(image, keras.layers.Dense(3)(mixed)).save(tmp_path / "own.keras")
    exported = _export(tmp_path / "own.keras")
    assert exported.inputs == ["image float32 [2, 8, 8, 3]"]
    assert "is part of its computation" in capsys.readouterr().err


def test_samples_of_float_pixels_are_taken_as_clients_send_them(keras: Any, tmp_path: Path, capsys: Any) -> None:
    _network(keras, keras.layers.Rescaling(1 / 255)).save(tmp_path / "own.keras")
    for name, pixels, reason in (
        ("resized", PIXELS + np.float32(0.75), "has fractional pixels; they are rounded"),
        ("whole", PIXELS.astype(np.float32), ""),
        ("scaled", PIXELS / np.float32(255), "the model accepts raw pixels"),
    ):
        samples = tmp_path / f"{name}.npz"
        np.savez(samples, x=np.minimum(pixels, 255))
        capsys.readouterr()
        if name == "scaled":
            with pytest.raises(SamplesError, match=reason):
                _export(tmp_path / "own.keras", samples=samples)
        else:
            exported = _export(tmp_path / "own.keras", samples=samples)
            sent = np.rint(np.minimum(pixels, 255))
            np.testing.assert_array_equal(read_golden(exported.slot.folder / "golden.npz").inputs["image"], sent)
            said = capsys.readouterr().err
            assert reason in said
            assert ("rounded" in said) == (name == "resized")
