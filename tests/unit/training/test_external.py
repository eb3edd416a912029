"""External data of PyTorch's exports: model.onnx and model.onnx.data."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pixelserve.card import MODEL_FILE, verify_model_file
from pixelserve.golden import read_golden
from pixelserve_training.errors import SourceError, UsageError
from pixelserve_training.exporting import external
from pixelserve_training.exporting.export import Exported, Target, export_file
from pixelserve_training.runtime import OnnxModel

WEIGHTS = np.arange(12, dtype=np.float32).reshape(4, 3)
DATA = "model.onnx.data"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """`x` float32 [n, 4] -> `y` [n, 3], whose weights are in model.onnx.data."""
    return write(tmp_path, [helper.make_node("MatMul", ["x", "weights"], ["y"])])


@pytest.fixture
def branching(tmp_path: Path) -> Path:
    """The same with twice the outputs; the 2 is in model.onnx.data too, and in a branch of an If."""

    def branch(name: str, factor: float) -> Any:
        scale = numpy_helper.from_array(np.full(3, factor, np.float32), f"{name}_scale")
        output = helper.make_tensor_value_info(f"{name}_y", TensorProto.FLOAT, None)
        return helper.make_graph(
            [helper.make_node("Mul", ["sums", f"{name}_scale"], [f"{name}_y"])], name, [], [output], [scale]
        )

    either = helper.make_node("If", ["yes"], ["y"], then_branch=branch("then", 2), else_branch=branch("else", 3))
    return write(tmp_path, [helper.make_node("MatMul", ["x", "weights"], ["sums"]), either])


def write(tmp_path: Path, nodes: list[Any]) -> Path:
    graph = helper.make_graph(
        nodes,
        "beside",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(WEIGHTS, "weights"), numpy_helper.from_array(np.array(True), "yes")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    folder = tmp_path / "source"
    folder.mkdir()
    onnx.save(model, folder / MODEL_FILE, save_as_external_data=True, location=DATA, size_threshold=0)
    assert (folder / DATA).stat().st_size >= WEIGHTS.nbytes
    return folder / MODEL_FILE


def export(path: Path, to: Path) -> Exported:
    np.savez(to / "samples.npz", x=np.eye(4, dtype=np.float32))
    target = Target(to / "models", "beside")
    return export_file(path, target, labels=None, samples=to / "samples.npz", pixel_scale=None)


def point_elsewhere(path: Path, location: str) -> None:
    model = onnx.load(path, load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        if entry.key == "location":
            entry.value = location
    onnx.save(model, path)


def test_weights_beside_the_graph_become_part_of_it_from_any_working_folder(
    branching: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    exported = export(branching.relative_to(tmp_path), tmp_path)
    folder = exported.slot.folder
    assert sorted(each.name for each in folder.iterdir()) == ["card.json", "golden.npz", "model.onnx"]
    model = OnnxModel((folder / MODEL_FILE).read_bytes(), source="merged")
    np.testing.assert_array_equal(model.run({"x": np.eye(4, dtype=np.float32)})["y"], WEIGHTS * 2)


def test_weights_that_one_file_cannot_hold_stay_beside_it(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(external, "MOST_BYTES", 100)
    exported = export(path, tmp_path)
    folder = exported.slot.folder
    verify_model_file(exported.card, folder / MODEL_FILE)
    assert (folder / DATA).read_bytes() == (path.parent / DATA).read_bytes()
    assert (folder / MODEL_FILE).read_bytes() == path.read_bytes()
    np.testing.assert_array_equal(read_golden(folder / "golden.npz").outputs["y"], WEIGHTS)


def test_int8_is_not_for_what_one_file_cannot_hold(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(external, "MOST_BYTES", 100)
    (tmp_path / "labels.txt").write_text("cat\ndog\nowl\n")
    np.savez(tmp_path / "samples.npz", x=np.eye(4, dtype=np.float32), y=[2, 2, 2, 2])
    target = Target(tmp_path / "models", "beside", precision="int8")
    options = {"labels": tmp_path / "labels.txt", "samples": tmp_path / "samples.npz", "pixel_scale": None}
    with pytest.raises(UsageError, match="below 2 GB"):
        export_file(path, target, **options)


@pytest.mark.parametrize("name", ["card.json", "weights/model.onnx.data"])
def test_large_weights_must_have_a_place_beside_the_graph(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(external, "MOST_BYTES", 100)
    (path.parent / name).parent.mkdir(exist_ok=True)
    (path.parent / DATA).rename(path.parent / name)
    model = onnx.load(path, load_external_data=False)
    for tensor in external._kept(model):
        tensor.external_data[0].value = name
    onnx.save(model, path)
    with pytest.raises(SourceError, match="write them into one file beside it"):
        export(path, tmp_path)


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "", "weights/../../secret"])
def test_a_location_out_of_the_models_folder_is_not_read(path: Path, tmp_path: Path, location: str) -> None:
    (tmp_path / "secret").write_bytes(b"secret" * 100)
    (path.parent / "weights").mkdir()
    point_elsewhere(path, location)
    with pytest.raises(SourceError, match="outside its folder, which is not read"):
        export(path, tmp_path)
    assert not (tmp_path / "models").exists()


def test_a_link_out_of_the_models_folder_is_not_read(path: Path, tmp_path: Path) -> None:
    (path.parent / DATA).rename(tmp_path / "elsewhere")
    (path.parent / DATA).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SourceError, match="is a link out of the model's folder"):
        export(path, tmp_path)


def test_files_linked_from_one_folder_to_another_are_read_as_model_hubs_keep_them(path: Path, tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    for number, file in enumerate((path, path.parent / DATA)):
        file.rename(tmp_path / "blobs" / str(number))
        file.symlink_to(tmp_path / "blobs" / str(number))
    assert export(path, tmp_path).golden_samples == 4


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(None, r"source/model\.onnx\.data is missing; copy both files", id="missing"),
        pytest.param(b"1234", "which has 4: it is cut short or belongs to another model", id="cut short"),
        pytest.param(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull", id="not fetched"),
    ],
)
def test_weights_that_cannot_be_had_are_named(path: Path, tmp_path: Path, content: bytes | None, said: str) -> None:
    (path.parent / DATA).unlink()
    if content is not None:
        (path.parent / DATA).write_bytes(content)
    with pytest.raises(SourceError, match=said):
        export(path, tmp_path)


def test_a_folder_in_place_of_the_weights_is_named(path: Path, tmp_path: Path) -> None:
    (path.parent / DATA).unlink()
    (path.parent / DATA).mkdir()
    with pytest.raises(SourceError, match="which is not a file"):
        export(path, tmp_path)
