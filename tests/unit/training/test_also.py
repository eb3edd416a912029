"""`pixelserve export --also`: TensorFlow Lite and OpenVINO beside ONNX, each run by its own runtime."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelserve.card import read_card
from pixelserve.cli.export import Format
from pixelserve.golden import read_golden
from pixelserve_training.errors import MissingLibraryError, ParityError, SourceError, TargetExistsError, UsageError
from pixelserve_training.exporting import also
from pixelserve_training.exporting.also import openvino as openvino_format
from pixelserve_training.exporting.export import Exported, Target, export_file
from pixelserve_training.exporting.publish import Slot

Command = Callable[..., Any]
BOTH = ("tflite", "openvino")
# Keras saves weights in a way that NumPy will not take much longer.
_KERAS_WARNING = "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings(_KERAS_WARNING)]


def export(own: Any, folder: Path, *formats: str, path: Path | None = None, **target: Any) -> Exported:
    settings = Target(folder / "models", "own", also=formats, also_to=folder / "other")
    return export_file(
        path or own.keras,
        replace(settings, **target),
        labels=own.labels,
        samples=own.raw_samples,
        pixel_scale=1 / 255 if path is None else None,
    )


@pytest.fixture(scope="module")
def exported(own: Any, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return export(own, tmp_path_factory.mktemp("also"), *BOTH)


def other_folder(exported: Exported) -> Path:
    return exported.slot.repository.parent / "other" / "own" / "1"


def test_litert_runs_the_tflite_file_on_raw_pixels_of_any_number(exported: Exported) -> None:
    from ai_edge_litert.interpreter import Interpreter

    golden = read_golden(exported.slot.folder / "golden.npz")
    runner = Interpreter(str(other_folder(exported) / "model.tflite")).get_signature_runner()
    found = runner(image=golden.inputs["image"])["probabilities"]
    np.testing.assert_allclose(found, golden.outputs["probabilities"], atol=1e-5)
    assert golden.inputs["image"].dtype == np.uint8
    np.testing.assert_allclose(runner(image=golden.inputs["image"][:1])["probabilities"], found[:1], atol=1e-6)


def test_openvino_runs_the_ir_on_raw_pixels_of_any_number(exported: Exported) -> None:
    golden = read_golden(exported.slot.folder / "golden.npz")
    model = (
        openvino_format.library()
        .Core()
        .compile_model(other_folder(exported) / "model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    )
    found = model({"image": golden.inputs["image"]})["probabilities"]
    np.testing.assert_allclose(found, golden.outputs["probabilities"], atol=1e-5)
    np.testing.assert_allclose(model({"image": golden.inputs["image"][:1]})["probabilities"], found[:1], atol=1e-6)


def test_the_card_holds_the_hashes_and_the_differences(exported: Exported) -> None:
    card = read_card(exported.slot.folder / "card.json")
    assert [entry.format for entry in card.other_formats] == list(BOTH)
    assert [entry.runtime for entry in card.other_formats] == ["ai-edge-litert", "openvino"]
    for entry in card.other_formats:
        assert entry.max_abs_error <= entry.tolerance == card.tolerance("CPUExecutionProvider")
        assert entry.samples == 16
        for name, sha256 in entry.files.items():
            assert hashlib.sha256((other_folder(exported) / name).read_bytes()).hexdigest() == sha256
    files = {name for entry in card.other_formats for name in entry.files}
    assert (
        files == {path.name for path in other_folder(exported).iterdir()} == {"model.tflite", "model.xml", "model.bin"}
    )


def test_the_versions_folder_is_that_of_any_version(exported: Exported) -> None:
    names = {path.name for path in exported.slot.folder.iterdir()}
    assert names == {"model.onnx", "card.json", "golden.npz", "golden-picture.npz"}


def test_the_command_says_what_was_written(pixelserve: Command, own: Any, tmp_path: Path) -> None:
    options = ("--name", "own", "--labels", own.labels, "--samples", own.raw_samples, "--pixel-scale", "1/255")
    to = ("--to", tmp_path / "models", "--also", "openvino", "--also-to", tmp_path / "other")
    ran = pixelserve("export", own.keras, *options, *to)
    assert ran.exit_code == 0, ran.err
    assert "openvino: differs from ONNX Runtime by at most " in ran.out
    found = json.loads(pixelserve("export", own.keras, *options, *to, "--json").out)
    assert [entry["format"] for entry in found["other_formats"]] == ["openvino"]


def test_a_runtime_that_computes_something_else_is_refused_and_nothing_is_written(
    own: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(source: Any, model: Any) -> Any:
        made = openvino_format.make(source, model)
        return replace(made, run=lambda inputs: {name: 1 - out for name, out in made.run(inputs).items()})

    monkeypatch.setattr(also, "FORMATS", {"openvino": wrong})
    with pytest.raises(ParityError, match=r"openvino [\d.]+ computes something else from the openvino file than ONNX"):
        export(own, tmp_path, "openvino", path=own.onnx)
    assert list(tmp_path.iterdir()) == []


def test_a_version_that_cannot_be_written_leaves_no_other_files(own: Any, tmp_path: Path) -> None:
    assert export(own, tmp_path, path=own.onnx, also_to=None).published
    with pytest.raises(TargetExistsError):
        export(own, tmp_path, "openvino", path=own.onnx, version=1)
    (tmp_path / "other" / "own" / "2").mkdir(parents=True)
    (tmp_path / "other" / "own" / "2" / "mine").write_text("")
    with pytest.raises(TargetExistsError, match="other/own/2"):
        export(own, tmp_path, "openvino", path=own.onnx)
    assert [path.name for path in (tmp_path / "models" / "own").iterdir() if path.is_dir()] == ["1"]


def test_tflite_is_for_float32_models_of_tensorflow(own: Any, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="--also tflite converts float32 models of Keras and TensorFlow"):
        export(own, tmp_path, "tflite", path=own.onnx)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("formats", "changes", "message"),
    [
        (("tflite",), {"also_to": None}, "--also tflite needs a folder for its files, outside the repository"),
        ((), {}, "--also-to is the folder of --also: give a format"),
    ],
)
def test_a_folder_and_a_format_belong_together(
    formats: tuple[str, ...], changes: dict[str, Any], message: str, own: Any, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        export(own, tmp_path, *formats, path=own.onnx, **changes)


@pytest.mark.parametrize(("inside", "name"), [("models", "own"), ("models/other", "own"), (".", "models")])
def test_files_that_servers_would_find_are_refused_before_anything_is_written(
    inside: str, name: str, own: Any, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"servers would find the files .* in the repository .*/models; give a folder"):
        export(own, tmp_path, "openvino", path=own.onnx, also_to=tmp_path / inside, name=name)
    assert list(tmp_path.iterdir()) == []


def test_the_command_offers_each_format() -> None:
    assert [choice.value for choice in Format] == list(also.FORMATS)


def test_without_samples_nothing_can_be_compared() -> None:
    with pytest.raises(UsageError, match=r"--also openvino is compared on real inputs: give x with --samples"):
        also.check_samples(("openvino",), None)


def test_a_version_that_may_not_be_written_gets_no_other_formats() -> None:
    with pytest.raises(UsageError, match="--also and --if-better exclude each other"):
        also.check(("openvino",), Path("other"), Slot(Path("models"), "own", 1), if_better=True)


@pytest.mark.parametrize(("name", "module"), [("tflite", "ai_edge_litert"), ("openvino", "openvino")])
def test_without_the_runtime_the_error_names_its_extra(
    name: str, module: str, pixelserve: Command, own: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for loaded in [each for each in sys.modules if each.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, "pixelserve.openvino_runtime", raising=False)
    options = ("--name", "own", "--labels", own.labels, "--samples", own.samples, "--to", tmp_path / "models")
    ran = pixelserve("export", own.onnx, *options, "--also", name, "--also-to", tmp_path / "other")
    assert ran.exit_code == MissingLibraryError.exit_code
    assert f"this needs the library {module}" in ran.err
    assert f"pip install -e '.[{name}]'" in ran.err


# Python's audit events of everything that could reach the network, or leave it to another process.
_WATCH = """
import sys
events = []
watched = ("socket.", "subprocess.Popen", "os.posix_spawn", "os.fork", "os.system", "urllib.Request", "http.client")
sys.addaudithook(lambda event, _: events.append(event) if event.startswith(watched) else None)
from pixelserve import cli
sys.argv = ["pixelserve", *sys.argv[1:]]
try:
    cli.main()
except SystemExit as end:
    assert not end.code, end.code
import threading
assert "openvino" in sys.modules
left = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
print("events", events, "threads", left)
"""


def test_openvino_reports_nothing_and_leaves_no_id(own: Any, tmp_path: Path) -> None:
    options = ["--name", "own", "--labels", own.labels, "--samples", own.samples, "--to", tmp_path / "models"]
    home = tmp_path / "home"
    home.mkdir()
    ran = subprocess.run(
        [sys.executable, "-c", _WATCH, "export", own.onnx, *options, "--also", "openvino", "--also-to", tmp_path / "o"],
        env={"HOME": str(home), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[-1] == "events [] threads []"
    assert [path for path in home.rglob("*") if "openvino" in path.name] == []
