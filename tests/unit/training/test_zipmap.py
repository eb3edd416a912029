"""scikit-learn's classifiers from skl2onnx: labels beside the scores, and ZipMap after them."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from pixelserve.golden import read_golden, replay
from pixelserve_training.errors import SamplesError
from pixelserve_training.exporting.export import Exported, Target, export_file
from pixelserve_training.runtime import OnnxModel

NAMES = ("setosa", "versicolor", "virginica")


def write_linear(path: Path, *, classes: Any, is_zipped: bool = True) -> None:
    """Writes a linear classifier of `x` float32 [n, 2] and three classes, as skl2onnx does."""
    strings = isinstance(classes[0], str)
    labels = {"classlabels_strings" if strings else "classlabels_ints": classes}
    scores = "scores" if is_zipped else "probabilities"
    nodes = [
        helper.make_node(
            *("LinearClassifier", ["x"], ["label", scores]),
            domain="ai.onnx.ml",
            coefficients=[1.0, 0.0, 0.0, 1.0, -1.0, -1.0],
            intercepts=[0.0, 0.5, 0.0],
            post_transform="SOFTMAX",
            **labels,
        )
    ]
    outputs = [helper.make_tensor_value_info("label", TensorProto.STRING if strings else TensorProto.INT64, ["n"])]
    if is_zipped:
        kind = "classlabels_strings" if strings else "classlabels_int64s"
        nodes.append(helper.make_node("ZipMap", ["scores"], ["probabilities"], domain="ai.onnx.ml", **{kind: classes}))
        key = TensorProto.STRING if strings else TensorProto.INT64
        value = helper.make_tensor_type_proto(TensorProto.FLOAT, [])
        dictionaries = helper.make_sequence_type_proto(helper.make_map_type_proto(key, value))
        outputs.append(helper.make_value_info("probabilities", dictionaries))
    else:
        outputs.append(helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 3]))
    graph = helper.make_graph(
        nodes, "linear", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])], outputs
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("ai.onnx.ml", 1)], ir_version=8), path)


def export(path: Path, to: Path, **options: Any) -> Exported:
    given = {"labels": None, "samples": None, "pixel_scale": None} | options
    return export_file(path, Target(to / "models", "own"), **given)


def labels_of(exported: Exported) -> list[str]:
    return (exported.slot.model_folder / "labels.txt").read_text().splitlines()


def replayed(exported: Exported) -> float:
    model = OnnxModel((exported.slot.folder / "model.onnx").read_bytes(), source="model.onnx")
    return replay(read_golden(exported.slot.folder / "golden.npz"), model.run, 0.001)


def test_two_classes_of_one_decision_value_become_labels(tmp_path: Path) -> None:
    # A binary LinearSVC as skl2onnx writes it.
    nodes = [
        helper.make_node(
            *("LinearClassifier", ["x"], ["label", "both"]),
            domain="ai.onnx.ml",
            coefficients=[-1.0, 0.0, 1.0, 0.0],
            intercepts=[0.0, 0.0],
            classlabels_strings=["no", "yes"],
        ),
        helper.make_node("ArrayFeatureExtractor", ["both", "second"], ["probabilities"], domain="ai.onnx.ml"),
    ]
    graph = helper.make_graph(
        nodes,
        "svm",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])],
        [
            helper.make_tensor_value_info("label", TensorProto.STRING, ["n"]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 1]),
        ],
        [helper.make_tensor("second", TensorProto.INT64, [1], [1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("ai.onnx.ml", 1)], ir_version=8)
    onnx.save(model, tmp_path / "m.onnx")
    np.savez(tmp_path / "samples.npz", x=np.array([[-9, 0], [0.25, 0], [2, 0]], np.float32), y=[0, 1, 1])
    exported = export(tmp_path / "m.onnx", tmp_path, samples=tmp_path / "samples.npz")
    assert (labels_of(exported), exported.accuracy) == (["no", "yes"], 1)


@pytest.mark.parametrize("is_zipped", [True, False])
@pytest.mark.parametrize(
    ("classes", "expected"), [(list(NAMES), list(NAMES)), ([3, 4, 5], ["3", "4", "5"])], ids=["strings", "integers"]
)
def test_the_classes_in_the_model_become_labels_of_its_scores(
    tmp_path: Path, classes: list[Any], expected: list[str], is_zipped: bool
) -> None:
    write_linear(tmp_path / "m.onnx", classes=classes, is_zipped=is_zipped)
    np.savez(tmp_path / "samples.npz", x=np.array([[9, 0], [0, 9], [-9, -9]], np.float32), y=[0, 1, 2])
    exported = export(tmp_path / "m.onnx", tmp_path, samples=tmp_path / "samples.npz")
    assert labels_of(exported) == expected
    assert exported.accuracy == 1
    kind = "string" if isinstance(classes[0], str) else "int64"
    assert exported.outputs == [f"label {kind} [-1]", "probabilities float32 [-1, 3]"]
    golden = read_golden(exported.slot.folder / "golden.npz").outputs
    assert golden["label"].tolist() == classes
    np.testing.assert_allclose(golden["probabilities"].sum(axis=1), 1, rtol=1e-5)
    assert replayed(exported) == 0
    config = (exported.slot.model_folder / "config.pbtxt").read_text()
    assert config.index('name: "probabilities"') < config.index("label_filename")


def test_zipmaps_classes_go_before_those_that_the_classifier_counts_by(tmp_path: Path) -> None:
    write_linear(tmp_path / "m.onnx", classes=[0, 1, 2])
    model = onnx.load(tmp_path / "m.onnx")
    zipped = model.graph.node[-1]
    named = helper.make_node("ZipMap", zipped.input, zipped.output, domain="ai.onnx.ml", classlabels_strings=NAMES)
    zipped.CopyFrom(named)
    model.graph.output[1].type.sequence_type.elem_type.map_type.key_type = TensorProto.STRING
    onnx.save(model, tmp_path / "m.onnx")
    exported = export(tmp_path / "m.onnx", tmp_path)
    assert labels_of(exported) == list(NAMES)
    onnx.checker.check_model(onnx.load(exported.slot.folder / "model.onnx"), full_check=True)


def test_labels_that_are_given_go_before_those_in_the_model(tmp_path: Path) -> None:
    write_linear(tmp_path / "m.onnx", classes=[0, 1, 2])
    (tmp_path / "labels.txt").write_text("cat\ndog\nowl\n")
    assert labels_of(export(tmp_path / "m.onnx", tmp_path, labels=tmp_path / "labels.txt")) == ["cat", "dog", "owl"]


@pytest.mark.parametrize("classes", [["a", "b\nc", "d"], ["a", " ", "b"], ["a", "b", "b"]])
def test_classes_that_no_label_file_can_hold_are_left_out(tmp_path: Path, classes: list[str]) -> None:
    write_linear(tmp_path / "m.onnx", classes=classes)
    exported = export(tmp_path / "m.onnx", tmp_path)
    assert not (exported.slot.model_folder / "labels.txt").exists()


def test_a_model_without_zipmap_keeps_its_bytes(own_onnx: Path, tmp_path: Path) -> None:
    exported = export(own_onnx, tmp_path)
    assert (exported.slot.folder / "model.onnx").read_bytes() == own_onnx.read_bytes()


def estimators() -> dict[str, Any]:
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return {
        "linear": LogisticRegression(),
        "forest": RandomForestClassifier(5, random_state=0),
        "network": MLPClassifier(max_iter=10, random_state=0),
        "pipeline": make_pipeline(StandardScaler(), LogisticRegression()),
        "one against each": OneVsRestClassifier(LogisticRegression()),
    }


@pytest.mark.slow
@pytest.mark.parametrize("zipmap", [True, False])
@pytest.mark.parametrize("kind", ["linear", "forest", "network", "pipeline", "one against each"])
def test_what_skl2onnx_writes_predicts_what_scikit_learn_does(tmp_path: Path, kind: str, zipmap: bool) -> None:
    from skl2onnx import to_onnx

    generator = np.random.default_rng(4)
    rows = (generator.normal(size=(60, 4)) + np.arange(60)[:, np.newaxis] % 3).astype(np.float32)
    targets = np.array(NAMES)[np.arange(60) % 3]
    estimator = estimators()[kind]
    with warnings.catch_warnings():
        # Ten rounds are enough here, whatever scikit-learn says.
        warnings.simplefilter("ignore")
        estimator.fit(rows, targets)
        model = to_onnx(estimator, rows[:1], options={id(estimator): {"zipmap": zipmap}})
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    np.savez(tmp_path / "samples.npz", x=rows, y=np.arange(60) % 3)
    exported = export(tmp_path / "m.onnx", tmp_path, samples=tmp_path / "samples.npz")
    assert labels_of(exported) == list(NAMES)
    assert exported.accuracy == pytest.approx(estimator.score(rows, targets))
    golden = read_golden(exported.slot.folder / "golden.npz")
    np.testing.assert_allclose(
        golden.outputs[exported.outputs[1].split()[0]], estimator.predict_proba(rows[:16]), atol=1e-4
    )
    assert replayed(exported) == 0


@pytest.mark.parametrize(
    ("classes", "targets"),
    [
        (list(NAMES), list(NAMES)),
        (list(NAMES), [0, 1, 2]),
        ([3, 4, 5], [3, 4, 5]),
        ([3, 4, 5], [0, 1, 2]),
        ([1, 2, 3], [1, 2, 3]),
    ],
)
def test_samples_may_have_the_classes_as_the_estimator_was_fitted_with_them(
    tmp_path: Path, classes: list[Any], targets: list[Any]
) -> None:
    write_linear(tmp_path / "m.onnx", classes=classes)
    np.savez(tmp_path / "samples.npz", x=np.array([[9, 0], [0, 9], [-9, -9]], np.float32), y=targets)
    assert export(tmp_path / "m.onnx", tmp_path, samples=tmp_path / "samples.npz").accuracy == 1


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        (["setosa", "rose", "setosa"], '"rose"; expected one of setosa, versicolor, virginica'),
        ([0, 1, 3], "a sample's label is 3; expected 0 to 2"),
        ([0, 1, -1], "a sample's label is -1; expected 0 to 2"),
    ],
)
def test_a_sample_of_another_class_is_refused(tmp_path: Path, targets: list[Any], said: str) -> None:
    write_linear(tmp_path / "m.onnx", classes=list(NAMES))
    np.savez(tmp_path / "samples.npz", x=np.zeros((3, 2), np.float32), y=targets)
    with pytest.raises(SamplesError, match=said):
        export(tmp_path / "m.onnx", tmp_path, samples=tmp_path / "samples.npz")


def write_columns(path: Path) -> None:
    """Writes a model of a table's columns, `age` float32 [n, 1] and `town` string [n, 1], which gives them back."""
    kinds = {"age": TensorProto.FLOAT, "town": TensorProto.STRING}
    graph = helper.make_graph(
        [helper.make_node("Identity", [name], [f"{name}_out"]) for name in kinds],
        "columns",
        [helper.make_tensor_value_info(name, kind, ["n", 1]) for name, kind in kinds.items()],
        [helper.make_tensor_value_info(f"{name}_out", kind, ["n", 1]) for name, kind in kinds.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def test_columns_of_a_table_are_inputs_of_their_own(tmp_path: Path) -> None:
    write_columns(tmp_path / "m.onnx")
    np.savez(tmp_path / "samples.npz", age=np.array([1.0, 2.0]), town=np.array(["Cork", "Zürich"]))
    exported = export(tmp_path / "m.onnx", tmp_path, samples=tmp_path / "samples.npz")
    golden = read_golden(exported.slot.folder / "golden.npz")
    assert golden.inputs["town"].tolist() == golden.outputs["town_out"].tolist() == [["Cork"], ["Zürich"]]
    assert replayed(exported) == 0


def test_strings_that_numpy_would_pickle_come_with_the_remedy(tmp_path: Path) -> None:
    write_columns(tmp_path / "m.onnx")
    np.savez(tmp_path / "samples.npz", age=np.array([1.0]), town=np.array(["Cork"], object))
    with pytest.raises(SamplesError, match=r"values\.astype\(str\)"):
        export(tmp_path / "m.onnx", tmp_path, samples=tmp_path / "samples.npz")
