import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelserve.card import read_card, verify_model_file
from pixelserve.golden import read_golden, replay
from pixelserve.golden_picture import read_golden_picture
from pixelserve.imaging.declaration import Input, parse
from pixelserve.imaging.golden import replay as replay_picture
from pixelserve_training.errors import ParityError, SourceError, TargetExistsError, UsageError, WriteError
from pixelserve_training.exporting import export, publish, sources, verify
from pixelserve_training.exporting.export import Target, export_run
from pixelserve_training.runtime import OnnxModel

Command = Callable[..., Any]

# Keras saves weights in a way that NumPy will not take much longer.
_KERAS_WARNING = "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings(_KERAS_WARNING)]


def test_the_export_command_writes_a_whole_model(
    pixelserve: Command, run_folder: Path, data_dir: Path, tmp_path: Path
) -> None:
    ran = pixelserve("export", run_folder, "--to", tmp_path / "models", "--data-dir", data_dir, "--json")
    assert ran.exit_code == 0, ran.err
    result = json.loads(ran.out)
    model = tmp_path / "models" / "mnist-cnn"
    assert result["folder"] == str(model / "1")
    assert result["verified"]
    files = ["1/card.json", "1/golden-picture.npz", "1/golden.npz", "1/model.onnx"]
    assert _listing(model) == ["1", *files, "config.pbtxt", "labels.txt"]
    assert (model / "labels.txt").read_text().split() == list("0123456789")
    card = read_card(model / "1" / "card.json")
    assert card.picture == "colour=grey layout=nhwc size=28x28 fit=mnist resampling=bilinear inversion=auto"
    assert "pillow" in card.versions
    replay_picture(read_golden_picture(model / "1" / "golden-picture.npz"), parse("mnist", Input((28, 28, 1), "uint8")))


def test_the_exported_file_takes_raw_pixels_and_reproduces_keras(
    run_folder: Path, data_dir: Path, tmp_path: Path
) -> None:
    folder = export_run(run_folder, Target(tmp_path), data_dir=data_dir).slot.folder
    card = read_card(folder / "card.json")
    verify_model_file(card, folder / "model.onnx")
    model = OnnxModel((folder / "model.onnx").read_bytes(), source="model.onnx")
    assert [(tensor.name, tensor.dtype, tensor.shape) for tensor in (*model.inputs, *model.outputs)] == [
        ("image", np.uint8, (-1, 28, 28, 1)),
        ("probabilities", np.float32, (-1, 10)),
    ]
    golden = read_golden(folder / "golden.npz")
    # Of the held-out images, which are fewer than the usual 16.
    assert golden.samples == 11
    assert replay(golden, model.run, card.tolerance("CPUExecutionProvider")) <= 1e-5
    assert card.tolerance("CUDAExecutionProvider") == pytest.approx(1e-4)
    assert (card.parameters, card.recipe, card.seed) == (93_322, "mnist-cnn", 0)
    assert card.evaluation is not None
    # A sixth of 64 training images is held out; the test split is not read.
    assert (card.evaluation.split, card.evaluation.samples) == ("validation", 11)


def test_the_next_export_gets_the_next_number_and_keeps_the_owners_edits(
    run_folder: Path, data_dir: Path, tmp_path: Path
) -> None:
    export_run(run_folder, Target(tmp_path), data_dir=data_dir)
    config = tmp_path / "mnist-cnn" / "config.pbtxt"
    config.write_text(config.read_text().replace("max_batch_size: 64", "max_batch_size: 8"))
    second = export_run(run_folder, Target(tmp_path), data_dir=data_dir)
    assert second.slot.version == 2
    assert "max_batch_size: 8" in config.read_text()


def test_a_version_that_exists_is_refused_with_the_remedy(run_folder: Path, data_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "mnist-cnn" / "3").mkdir(parents=True)
    with pytest.raises(TargetExistsError, match="omit --version to write version 4"):
        export_run(run_folder, Target(tmp_path, version=3), data_dir=data_dir)


def test_a_model_that_differs_from_keras_is_refused_and_nothing_is_written(
    run_folder: Path, data_dir: Path, tmp_path: Path
) -> None:
    with pytest.raises(ParityError, match="differs from the original by up to"):
        export_run(run_folder, Target(tmp_path / "models", tolerance=1e-12), data_dir=data_dir)
    assert list(tmp_path.iterdir()) == []


def test_a_single_other_label_is_refused_whatever_the_tolerance(
    run_folder: Path, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def swapped(*args: Any, **options: Any) -> sources.Source:
        source = original(*args, **options)
        reference = source.reference
        assert reference is not None

        def other(inputs: Any) -> Any:
            outputs = reference(inputs)
            outputs["probabilities"][5] = np.roll(outputs["probabilities"][5], 1)
            return outputs

        return sources.Source(**{**vars(source), "reference": other})

    original = sources.from_keras_file
    monkeypatch.setattr(sources, "from_keras_file", swapped)
    with pytest.raises(ParityError, match="different label than the original for 1 of 11 samples, first for sample 5"):
        export_run(run_folder, Target(tmp_path / "models", tolerance=1.0), data_dir=data_dir)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("existing", [False, True])
def test_an_interrupted_export_leaves_the_repository_as_it_was(
    run_folder: Path, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, existing: bool
) -> None:
    if existing:
        export_run(run_folder, Target(tmp_path), data_dir=data_dir)
    before = _listing(tmp_path)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    # The last file to be written.
    monkeypatch.setattr(publish, "write_golden", interrupt)
    with pytest.raises(KeyboardInterrupt):
        export_run(run_folder, Target(tmp_path), data_dir=data_dir)
    assert _listing(tmp_path) == before


@pytest.mark.parametrize("existing", [False, True])
def test_a_disk_that_is_full_in_mid_export_leaves_the_repository_as_it_was(
    run_folder: Path, data_dir: Path, tmp_path: Path, small_files: Callable[..., Any], existing: bool
) -> None:
    if existing:
        export_run(run_folder, Target(tmp_path), data_dir=data_dir)
    before = _listing(tmp_path)
    # The graph takes 370 KB.
    with small_files(100_000), pytest.raises(WriteError, match=r"cannot be written: File too large; nothing was left"):
        export_run(run_folder, Target(tmp_path), data_dir=data_dir)
    assert _listing(tmp_path) == before


def test_a_full_disk_of_temporary_files_is_named(
    run_folder: Path, data_dir: Path, tmp_path: Path, small_files: Callable[..., Any]
) -> None:
    with small_files(100_000), pytest.raises(WriteError, match=r"File too large; make room, or set TMPDIR"):
        export_run(run_folder, Target(tmp_path, precision="int8"), data_dir=data_dir)
    assert _listing(tmp_path) == []


def test_other_data_than_the_run_was_trained_on_is_refused(
    run_folder: Path, make_idx: Callable[..., Path], tmp_path: Path
) -> None:
    other = make_idx(tmp_path / "data", test=40)
    with pytest.raises(SourceError, match="was trained on different MNIST files"):
        export_run(run_folder, Target(tmp_path / "models"), data_dir=other)


@pytest.mark.parametrize("named", ["run.partial", "run"])
def test_an_unfinished_run_is_not_exported(named: str, pixelserve: Command, tmp_path: Path) -> None:
    (tmp_path / "run.partial").mkdir()
    (tmp_path / "run.partial" / "state.json").write_text("{}")
    ran = pixelserve("export", tmp_path / named, "--to", tmp_path / "models")
    assert ran.exit_code == 2
    assert "run.partial is an unfinished run: finish it with pixelserve train --resume" in ran.err


def test_a_run_with_damaged_settings_is_named(run_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text("{}")
    with pytest.raises(SourceError, match="not the settings of a run"):
        export_run(tmp_path, Target(tmp_path / "models"), data_dir=None)


@pytest.mark.parametrize("name", ["", "../escape", ".hidden", "a b"])
def test_a_name_that_cannot_be_a_folder_is_refused(run_folder: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="model name"):
        publish.choose_slot(tmp_path, name, None)


def test_a_run_brings_its_own_labels(pixelserve: Command, run_folder: Path, tmp_path: Path) -> None:
    ran = pixelserve("export", run_folder, "--to", tmp_path / "models", "--labels", tmp_path / "labels.txt")
    assert ran.exit_code == 2
    assert "has its own" in ran.err


def test_parity_is_measured_on_the_first_images_and_accuracy_on_all(
    run_folder: Path, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "_RUN_PARITY_SAMPLES", 5)
    card = export_run(run_folder, Target(tmp_path), data_dir=data_dir).card
    assert card.parity[0].samples == 5
    assert card.parity[0].tolerance == verify.DEFAULT_TOLERANCE
    assert card.evaluation is not None
    assert card.evaluation.samples == 11


def _listing(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
