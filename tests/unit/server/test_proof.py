"""A version's requests are merged only if its rows are proven independent."""

import os
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, save

from pixelserve.card import Card, Parity, sha256_of
from pixelserve.golden import Golden, write_golden
from pixelserve_server.api.model_config import describe
from pixelserve_server.engine.session import Session
from pixelserve_server.errors import RepositoryError
from pixelserve_server.repository import evidence, opening, proof
from pixelserve_server.repository import warmup as warmup_module
from pixelserve_server.repository.layout import ModelFolder
from pixelserve_server.repository.loaded import LoadedVersion
from pixelserve_server.repository.loader import Tuning

WIDTH = 4
WEIGHTS = np.random.default_rng(0).normal(size=(WIDTH, 3)).astype(np.float32)
ONES, ZEROS = np.ones(WIDTH, np.float32), np.zeros(WIDTH, np.float32)
DYNAMIC = "max_batch_size: 8 dynamic_batching { }"
Node = tuple[str, str, str, dict[str, Any]]
Load = Callable[..., LoadedVersion]


def write(
    repository: Path,
    nodes: list[Node],
    inputs: dict[str, tuple[int, list[Any]]],
    outputs: dict[str, tuple[int, list[Any]]],
    config: str | None = None,
    **constants: Any,
) -> ModelFolder:
    """Writes version 1 of a model; a node is its operator, inputs, outputs and attributes."""
    values = [
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in tensors.items()]
        for tensors in (inputs, outputs)
    ]
    graph = helper.make_graph(
        [helper.make_node(operator, taken.split(), given.split(), **more) for operator, taken, given, more in nodes],
        "graph",
        *values,
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    folder = repository / "model"
    (folder / "1").mkdir(parents=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    save(model, folder / "1" / "model.onnx")
    if config is not None:
        (folder / "config.pbtxt").write_text(config)
    return ModelFolder(folder)


def write_floats(
    repository: Path, nodes: list[Node], output: list[Any], config: str | None, **constants: Any
) -> ModelFolder:
    x, y = {"x": (TensorProto.FLOAT, ["N", WIDTH])}, {"y": (TensorProto.FLOAT, output)}
    return write(repository, nodes, x, y, config, **constants)


def dense() -> list[Node]:
    return [("MatMul", "x W", "y", {})]


TRAINING_MODE: list[Node] = [
    ("BatchNormalization", "x one zero mean variance", "n new_mean new_variance", {"training_mode": 1}),
    ("MatMul", "n W", "y", {}),
]
MIXING: dict[str, tuple[list[Node], list[Any]]] = {
    "normalization in training mode": (TRAINING_MODE, ["N", 3]),
    "a softmax along the batch": ([("MatMul", "x W", "z", {}), ("Softmax", "z", "y", {"axis": 0})], ["N", 3]),
    "dropout that was left on": (
        [("Dropout", "x ratio on", "d", {"seed": 7}), ("MatMul", "d W", "y", {})],
        ["N", 3],
    ),
    "two rows for each": ([("Reshape", "x half", "y", {})], ["M", 2]),
    "a quantization range of the whole batch": (
        [
            ("DynamicQuantizeLinear", "x", "q scale point", {}),
            ("DequantizeLinear", "q scale point", "d", {}),
            ("MatMul", "d W", "y", {}),
        ],
        ["N", 3],
    ),
}
CONSTANTS = {
    "W": WEIGHTS,
    "one": ONES,
    "zero": ZEROS,
    # Of their own: in training mode ONNX Runtime writes into them.
    "mean": ZEROS,
    "variance": ONES,
    "ratio": np.float32(0.5),
    "on": np.array(True),
    "half": np.array([-1, 2]),
}


@pytest.mark.parametrize("config", [None, DYNAMIC], ids=["no configuration", "dynamic batching"])
@pytest.mark.parametrize(("nodes", "output"), MIXING.values(), ids=MIXING)
def test_a_model_whose_rows_depend_on_each_other_is_served_without_merging(
    tmp_path: Path, load: Load, nodes: list[Node], output: list[Any], config: str | None
) -> None:
    loaded = load(write_floats(tmp_path, nodes, output, config, **used(nodes)))
    assert (loaded.row_state, loaded.batch_limit, loaded.batcher.merges) == ("dependent", 0, False)
    assert loaded.unmerged.startswith("output y ")
    assert "; requests are not merged; export the model in inference mode" in loaded.unmerged
    described = describe(loaded, {})
    assert not described.HasField("dynamic_batching")
    assert described.parameters["pixelserve_unmerged"].string_value == loaded.unmerged


@pytest.mark.parametrize("config", [None, DYNAMIC], ids=["no configuration", "dynamic batching"])
def test_a_model_that_has_its_batch_on_another_axis_is_served_without_merging(
    tmp_path: Path, load: Load, config: str | None
) -> None:
    nodes: list[Node] = [("Transpose", "x", "y", {"perm": [2, 0, 1]})]
    x, y = (TensorProto.FLOAT, ["batch", 4, "time"]), (TensorProto.FLOAT, ["time", "batch", 4])
    loaded = load(write(tmp_path, nodes, {"x": x}, {"y": y}, config))
    assert (loaded.row_state, loaded.batcher.merges) == ("dependent", False)
    assert loaded.unmerged.startswith(
        "output y has shape [32, 1, 4] for a batch of 1, so its first axis is not the batch's"
    )


def used(nodes: list[Node]) -> dict[str, Any]:
    """Returns the constants that nodes take."""
    names = {name for _, taken, _, _ in nodes for name in taken.split()}
    return {name: value for name, value in CONSTANTS.items() if name in names}


def test_a_model_whose_rows_are_independent_is_merged(tmp_path: Path, load: Load) -> None:
    loaded = load(write_floats(tmp_path, dense(), ["N", 3], None, W=WEIGHTS))
    assert (loaded.row_state, loaded.unmerged, loaded.batcher.merges) == ("independent", "", True)
    assert loaded.batch_limit > 0
    assert describe(loaded, {}).HasField("dynamic_batching")


def test_a_batch_of_one_and_no_batch_need_no_proof(tmp_path: Path, load: Load) -> None:
    for number, rows in enumerate((1, 0)):
        folder = write_floats(
            tmp_path / str(number), TRAINING_MODE, ["N", 3], f"max_batch_size: {rows}", **used(TRAINING_MODE)
        )
        loaded = load(folder)
        assert (loaded.row_state, loaded.unmerged) == ("single", "")


@pytest.mark.parametrize(
    ("nodes", "kinds"),
    [
        pytest.param([("Gather", "table x", "y", {})], ("INT64", "FLOAT"), id="an index beyond its table"),
        pytest.param([("Reshape", "x wide", "y", {})], ("FLOAT", "FLOAT"), id="a shape that no row has"),
    ],
)
def test_a_model_that_raises_on_made_up_values_is_served_unproven(
    tmp_path: Path, load: Load, nodes: list[Node], kinds: tuple[str, str]
) -> None:
    x, y = (getattr(TensorProto, kind) for kind in kinds)
    constants = {"table": np.ones((1, 2), np.float32), "wide": np.array([-1, 5])}
    names = {name for _, taken, _, _ in nodes for name in taken.split()}
    folder = write(
        tmp_path,
        nodes,
        {"x": (x, ["N", WIDTH])},
        {"y": (y, ["N", "a", "b"][: 3 if kinds[0] == "INT64" else 2])},
        **{name: value for name, value in constants.items() if name in names},
    )
    loaded = load(folder)
    assert (loaded.row_state, loaded.batcher.merges, loaded.curve.sizes) == ("unproven", False, ())
    assert "cannot compute made-up values" in loaded.unmerged
    assert loaded.unmerged.endswith("export the model with --samples, or give it model_warmup in config.pbtxt")


@pytest.mark.parametrize(
    ("operator", "kind", "attributes"),
    [("Cast", "STRING", {"to": TensorProto.FLOAT}), ("Reciprocal", "FLOAT", {})],
)
def test_numbers_as_text_and_divisors_can_be_made_up(
    tmp_path: Path, load: Load, operator: str, kind: str, attributes: dict[str, Any]
) -> None:
    x, y = (getattr(TensorProto, kind), ["N", 2]), (TensorProto.FLOAT, ["N", 2])
    loaded = load(write(tmp_path, [(operator, "x", "y", attributes)], {"x": x}, {"y": y}))
    assert loaded.row_state == "independent"


def test_free_dimensions_are_tried_in_sizes_that_the_model_takes(tmp_path: Path, load: Load) -> None:
    nodes: list[Node] = [("Conv", "x K", "c", {}), ("GlobalAveragePool", "c", "y", {})]
    folder = write(
        tmp_path,
        nodes,
        {"x": (TensorProto.FLOAT, ["N", 3, "H", "W"])},
        {"y": (TensorProto.FLOAT, ["N", 2, 1, 1])},
        K=np.random.default_rng(0).normal(size=(2, 3, 40, 40)).astype(np.float32),
    )
    assert load(folder).row_state == "independent"


def write_evidence(folder: ModelFolder, inputs: Any, outputs: Any, tolerance: float = 1e-4) -> None:
    version = folder.version_path(1)
    card = Card(
        name="model",
        task="tabular",
        sha256=sha256_of(version / "model.onnx"),
        created="2026-01-02T03:04:05Z",
        parity=[Parity(precision="float32", provider="CPUExecutionProvider", tolerance=tolerance)],
    )
    card.write(version / "card.json")
    write_golden(version / "golden.npz", Golden({"x": inputs}, {"y": outputs}))


X = np.random.default_rng(3).normal(size=(5, WIDTH)).astype(np.float32)


BY_SIZE: list[Node] = [
    ("Shape", "x", "n", {"start": 0, "end": 1}),
    ("Cast", "n", "rows", {"to": TensorProto.FLOAT}),
    ("Mul", "rows step", "shift", {}),
    ("Add", "x shift", "y", {}),
]


@pytest.mark.parametrize(
    ("rows", "how"),
    [pytest.param(5, "together only", id="together"), pytest.param(1, "one by one only", id="one by one")],
)
def test_golden_samples_must_hold_one_by_one_and_together(tmp_path: Path, load: Load, rows: int, how: str) -> None:
    """A value grows with the batch by less than a row proof allows, but by more than the card does."""
    step = np.float32(1e-5)
    folder = write_floats(tmp_path, BY_SIZE, ["N", WIDTH], None, step=np.array([step]))
    assert load(folder).row_state == "independent"
    write_evidence(folder, X, X + rows * step, tolerance=1e-6)
    loaded = load(folder)
    assert (loaded.evidence.verified, loaded.row_state) == (True, "dependent")
    assert loaded.unmerged.startswith(f"the golden samples hold {how} (golden outputs differ by up to ")


def test_golden_samples_that_hold_in_neither_way_keep_a_version_from_serving(tmp_path: Path, load: Load) -> None:
    folder = write_floats(tmp_path, dense(), ["N", 3], None, W=WEIGHTS)
    write_evidence(folder, X, X @ WEIGHTS + 1)
    with pytest.raises(RepositoryError, match="golden outputs differ"):
        load(folder)


def test_golden_samples_prove_rows_that_made_up_values_cannot(tmp_path: Path, load: Load) -> None:
    nodes: list[Node] = [("Gather", "table x", "y", {})]
    table = np.arange(200, dtype=np.float32).reshape(100, 2)[:1].repeat(1, axis=0)
    folder = write(
        tmp_path,
        nodes,
        {"x": (TensorProto.INT64, ["N"])},
        {"y": (TensorProto.FLOAT, ["N", 2])},
        table=np.vstack([table, table + 1]),
    )
    assert load(folder).row_state == "unproven"
    inputs = np.array([0, 1, 1, 0])
    write_evidence(folder, inputs, np.vstack([table, table + 1])[inputs])
    loaded = load(folder)
    assert (loaded.row_state, loaded.evidence.verified) == ("independent", True)
    assert loaded.curve.sizes[0] == 1


# model_warmup.


def warmup(data: str, *, rows: int = 4, kind: str = "TYPE_INT64", dims: str = "1", name: str = "x") -> str:
    entry = f'inputs {{ key: "{name}" value {{ data_type: {kind} dims: [ {dims} ] {data} }} }}'
    return f'{DYNAMIC} model_warmup {{ name: "first" batch_size: {rows} {entry} }}'


def gatherer(tmp_path: Path, config: str, table_rows: int = 2) -> ModelFolder:
    """A model that takes indices of a small table, which made-up values are too large for."""
    return write(
        tmp_path,
        [("Gather", "table x", "y", {})],
        {"x": (TensorProto.INT64, ["N", 1])},
        {"y": (TensorProto.FLOAT, ["N", 1, 2])},
        config,
        table=np.arange(2 * table_rows, dtype=np.float32).reshape(table_rows, 2),
    )


@pytest.mark.parametrize(
    ("table_rows", "data", "state"),
    [
        pytest.param(256, "random_data: true", "independent", id="random rows prove"),
        pytest.param(2, "zero_data: true", "unproven", id="equal rows prove nothing"),
    ],
)
def test_rows_of_a_warmup_are_what_is_proven_with(
    tmp_path: Path, load: Load, table_rows: int, data: str, state: str
) -> None:
    loaded = load(gatherer(tmp_path, warmup(data), table_rows))
    assert loaded.row_state == state
    # Either way there is something to warm the session with.
    assert loaded.curve.sizes[0] == 1


def test_a_warmup_reads_its_file(tmp_path: Path, load: Load) -> None:
    folder = gatherer(tmp_path, warmup('input_data_file: "index"'))
    (folder.path / "warmup").mkdir()
    (folder.path / "warmup" / "index").write_bytes(struct.pack("<q", 1))
    assert load(folder).curve.sizes[0] == 1
    (folder.path / "warmup" / "index").write_bytes(struct.pack("<q", 9))
    with pytest.raises(RepositoryError, match=r'cannot run model_warmup "first" .* indices element out of data bounds'):
        load(folder)


def test_a_warmup_of_strings_has_their_lengths_before_them(tmp_path: Path, load: Load) -> None:
    config = warmup('input_data_file: "text"', kind="TYPE_STRING", dims="2", rows=1)
    x, y = (TensorProto.STRING, ["N", 2]), (TensorProto.FLOAT, ["N", 2])
    folder = write(tmp_path, [("Cast", "x", "y", {"to": TensorProto.FLOAT})], {"x": x}, {"y": y}, config)
    (folder.path / "warmup").mkdir()
    text = folder.path / "warmup" / "text"
    text.write_bytes(b"".join(struct.pack("<I", len(each)) + each for each in (b"2.5", b"-1")))
    load(folder)
    for damaged in (b"\x03", struct.pack("<I", 9) + b"2.5", struct.pack("<I", 1) + b"2"):
        text.write_bytes(damaged)
        with pytest.raises(RepositoryError, match=r"warmup/text: expected strings"):
            load(folder)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (warmup("zero_data: true", rows=9), "batch_size is 9; expected 1 to 8"),
        (warmup("zero_data: true", name="z"), "its inputs are z; expected x"),
        (warmup("zero_data: true", kind="TYPE_FP32"), "data_type of x is TYPE_FP32; expected TYPE_INT64"),
        (warmup("zero_data: true", dims="2"), r"dims of x are \[2\]; the model's are \[1\]"),
        (warmup(""), "x has no data; expected zero_data, random_data or input_data_file"),
        (warmup('input_data_file: "../1/model.onnx"'), 'input_data_file "../1/model.onnx" is not the name of a file'),
        (warmup('input_data_file: "none"'), "warmup/none: cannot be read: No such file"),
        (
            warmup("zero_data: true").replace('"first"', '"first" count: 100000'),
            "count is 100,000; expected at most 1,000",
        ),
    ],
)
def test_a_warmup_that_does_not_fit_is_refused(tmp_path: Path, load: Load, config: str, said: str) -> None:
    with pytest.raises(RepositoryError, match=said):
        load(gatherer(tmp_path, config))


def test_a_warmup_larger_than_memory_is_refused_before_it_is_made(tmp_path: Path, load: Load) -> None:
    config = warmup("zero_data: true", dims=str(10**12))
    x = (TensorProto.INT64, ["N", "any"])
    folder = write(tmp_path, [("Identity", "x", "y", {})], {"x": x}, {"y": x}, config)
    with pytest.raises(RepositoryError, match=r"x has 4,000,000,000,000 elements of .* at most 256 MiB"):
        load(folder)


# Every session.


def test_every_session_of_a_version_is_proven(tmp_path: Path, load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    proven: list[object] = []
    prove = proof.Prover.prove

    def counted(self: Any, session: Any) -> Any:
        proven.append(session)
        return prove(self, session)

    monkeypatch.setattr(proof.Prover, "prove", counted)
    config = f"{DYNAMIC} instance_group {{ count: 3 kind: KIND_CPU }}"
    load(write_floats(tmp_path, dense(), ["N", 3], config, W=WEIGHTS))
    assert len(set(map(id, proven))) == 3


def test_a_reloaded_session_is_proven_again_hash_included(tmp_path: Path, load: Load) -> None:
    folder = write_floats(tmp_path, dense(), ["N", 3], None, W=WEIGHTS)
    write_evidence(folder, X, X @ WEIGHTS)
    (instance,) = load(folder).batcher._scheduler._free
    model = folder.version_path(1) / "model.onnx"
    good = model.read_bytes()
    assert instance._rebuild is not None
    instance._rebuild()
    # Another model by now, and one that is damaged.
    for other in (good.replace(WEIGHTS.tobytes(), (WEIGHTS + 1).tobytes()), good + b"\0"):
        assert other != good
        model.write_bytes(other)
        with pytest.raises(RepositoryError, match=r"SHA-256|cannot load"):
            instance._rebuild()


def test_each_file_is_read_once_however_many_sessions_there_are(
    tmp_path: Path, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    for name in ("read_card", "read_golden", "verify_model_file"):
        known = getattr(evidence, name)
        monkeypatch.setattr(evidence, name, lambda *args, name=name, known=known: read.append(name) or known(*args))
    config = f"{DYNAMIC} instance_group {{ count: 3 kind: KIND_CPU }}"
    folder = write_floats(tmp_path, dense(), ["N", 3], config, W=WEIGHTS)
    write_evidence(folder, X, X @ WEIGHTS)
    assert load(folder).evidence.verified
    assert read == ["read_card", "verify_model_file", "read_golden"]


@pytest.mark.parametrize("number", [0, 1, 2])
def test_every_session_must_reproduce_the_golden_samples(
    tmp_path: Path, load: Load, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """One of three, opened in whatever order, computes something else."""
    opened: list[Session] = []

    class Odd(Session):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            opened.append(self)

        def run(self, inputs: Any) -> Any:
            outputs = super().run(inputs)
            return {"y": outputs["y"] + 1} if opened.index(self) == number else outputs

    monkeypatch.setattr(opening, "Session", Odd)
    config = f"{DYNAMIC} instance_group {{ count: 3 kind: KIND_CPU }}"
    folder = write_floats(tmp_path, dense(), ["N", 3], config, W=WEIGHTS)
    write_evidence(folder, X, X @ WEIGHTS)
    with pytest.raises(RepositoryError, match=r"golden.npz: golden outputs differ by up to 1"):
        load(folder)
    assert len(opened) == 3


def test_a_reloaded_session_proves_what_the_first_did_whatever_lies_there_by_then(
    tmp_path: Path, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_floats(tmp_path, dense(), ["N", 3], None, W=WEIGHTS)
    write_evidence(folder, X, X @ WEIGHTS)
    (instance,) = load(folder).batcher._scheduler._free
    version = folder.version_path(1)
    for name in ("card.json", "golden.npz"):
        (version / name).unlink()
    # The same bytes in another file.
    (version / "copy").write_bytes((version / "model.onnx").read_bytes())
    (version / "copy").replace(version / "model.onnx")
    assert instance._rebuild is not None
    instance._rebuild()
    run = Session.run
    monkeypatch.setattr(Session, "run", lambda self, inputs: {"y": run(self, inputs)["y"] + 1})
    with pytest.raises(RepositoryError, match=r"golden.npz: golden outputs differ by up to 1"):
        instance._rebuild()


def test_a_reloaded_session_is_of_the_same_file_without_a_card(tmp_path: Path, load: Load) -> None:
    folder = write_floats(tmp_path, dense(), ["N", 3], None, W=WEIGHTS)
    (instance,) = load(folder).batcher._scheduler._free
    assert instance._rebuild is not None
    instance._rebuild()
    # A sound model, and not the one that was loaded.
    model = folder.version_path(1) / "model.onnx"
    model.write_bytes(model.read_bytes().replace(WEIGHTS.tobytes(), (WEIGHTS + 1).tobytes()))
    with pytest.raises(RepositoryError, match=r"model.onnx: .* is not the one that was loaded; load the model again"):
        instance._rebuild()


def test_a_reloaded_session_is_proven_with_the_batches_that_serving_makes(
    tmp_path: Path, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    padded: list[int] = []
    prove = proof.prove_rows
    monkeypatch.setattr(proof, "prove_rows", lambda *args, **how: padded.append(how["padded"]) or prove(*args, **how))
    folder = write_floats(tmp_path, dense(), ["N", 3], DYNAMIC, W=WEIGHTS)
    (instance,) = load(folder, tuning=Tuning(buckets="8")).batcher._scheduler._free
    instance._rebuild()
    assert padded == [8, 8]


def test_all_warmups_together_are_bounded(tmp_path: Path, load: Load) -> None:
    x = (TensorProto.INT64, ["N", "any"])
    entry = warmup("zero_data: true", dims=str(3 << 20)).removeprefix(DYNAMIC)
    folder = write(tmp_path, [("Identity", "x", "y", {})], {"x": x}, {"y": x}, DYNAMIC + entry * 3)
    with pytest.raises(RepositoryError, match=r"config.pbtxt:\d+: model_warmup: x has .* at most 256 MiB"):
        load(folder)
    entry = warmup("zero_data: true").removeprefix(DYNAMIC).replace('"first"', '"first" count: 600')
    folder.config_file.write_text(DYNAMIC + entry * 2)
    with pytest.raises(RepositoryError, match="count is 600; expected at most 400 here, and 1,000 for all entries"):
        load(folder)


def test_a_warmups_file_counts_with_the_others(tmp_path: Path, load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warmup_module, "_Left", partial(warmup_module._Left, size=100))
    config = warmup('input_data_file: "text"', kind="TYPE_STRING", dims="2", rows=1)
    x, y = (TensorProto.STRING, ["N", 2]), (TensorProto.FLOAT, ["N", 2])
    entry = config.removeprefix(DYNAMIC)
    folder = write(tmp_path, [("Cast", "x", "y", {"to": TensorProto.FLOAT})], {"x": x}, {"y": y}, DYNAMIC + entry * 2)
    (folder.path / "warmup").mkdir()
    text = b"".join(struct.pack("<I", len(each)) + each for each in (b"2.5" + b"0" * 40, b"-1"))
    (folder.path / "warmup" / "text").write_bytes(text)
    with pytest.raises(RepositoryError, match=r"warmup/text: cannot be read: it has 53 bytes; at most 31 are read"):
        load(folder)
    (folder.path / "warmup" / "text").unlink()
    os.mkfifo(folder.path / "warmup" / "text")
    with pytest.raises(RepositoryError, match=r"warmup/text: cannot be read: it is not a file"):
        load(folder)
