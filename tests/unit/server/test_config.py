"""config.pbtxt: accepted and refused settings, and how they are reconciled with the graph."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format

from pixelserve.oip import model_config_pb2 as pb
from pixelserve.text import read_lines
from pixelserve_server.engine.policy import BatchingPolicy, QueuePolicy
from pixelserve_server.engine.reshape import Reshape
from pixelserve_server.engine.tensors import BY_NAME, FREE, TensorSpec
from pixelserve_server.errors import RepositoryError
from pixelserve_server.repository import labels, pbtxt
from pixelserve_server.repository.config import (
    Defaults,
    ModelConfig,
    examine_config,
    model_file_name,
    read_config,
    read_reshapes,
    resolve,
    select_versions,
)
from pixelserve_server.repository.layout import ModelFolder

DEFAULTS = Defaults(max_batch_size=64, max_queue_size=100)
IMAGE = TensorSpec("image", BY_NAME["UINT8"], (FREE, 28, 28, 1))
SCORES = TensorSpec("scores", BY_NAME["FP32"], (FREE, 3))


@pytest.fixture
def folder(tmp_path: Path) -> ModelFolder:
    """An empty model folder named digits."""
    (tmp_path / "digits").mkdir()
    return ModelFolder(tmp_path / "digits")


def resolved(
    folder: ModelFolder, text: str | None, inputs: tuple[Any, ...] = (IMAGE,), outputs: tuple[Any, ...] = (SCORES,)
) -> ModelConfig:
    """Settles a config.pbtxt of this text; None: there is none."""
    if text is not None:
        folder.config_file.write_text(text)
    return resolve(folder, read_config(folder), inputs, outputs, DEFAULTS)


def tensor(side: str, name: str, data_type: str, *dims: int, more: str = "") -> str:
    """Returns config.pbtxt's text for an input or an output."""
    return f'{side} [ {{ name: "{name}" data_type: TYPE_{data_type} dims: {list(dims)} {more} }} ] '


BATCHES = "max_batch_size: 8 "
NO_TYPE = 'input [ { name: "image" dims: [ 28, 28, 1 ] } ]'


def test_a_model_without_config_has_none(folder: ModelFolder) -> None:
    assert read_config(folder) is None


def test_a_parse_error_names_file_line_and_what_is_wrong(folder: ModelFolder) -> None:
    folder.config_file.write_text('name: "digits"\nmax_batch_size: 8\nmax_batch_sizes: 9\n')
    with pytest.raises(RepositoryError) as caught:
        read_config(folder)
    assert str(caught.value) == (
        f"{folder.config_file}:3: `max_batch_sizes: 9`: ModelConfig has no max_batch_sizes; write: max_batch_size: 9"
    )


def test_a_config_that_is_not_text_is_refused(folder: ModelFolder) -> None:
    folder.config_file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RepositoryError, match=r"config\.pbtxt: cannot be read"):
        read_config(folder)


def test_a_config_that_is_a_folder_is_refused(folder: ModelFolder) -> None:
    folder.config_file.mkdir()
    with pytest.raises(RepositoryError, match=r"config\.pbtxt: cannot be read"):
        read_config(folder)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param('name: "letters"', 'name is "letters", the folder\'s is "digits"', id="another name"),
        pytest.param('backend: "python"', '"python" is not served; only backend: "onnxruntime"', id="another backend"),
        pytest.param('platform: "tensorrt_plan"', '"tensorrt_plan" is not served', id="another platform"),
        pytest.param("max_batch_size: -1", "max_batch_size is -1; expected 0 or more", id="a negative batch"),
    ],
)
def test_what_is_not_served_is_refused(folder: ModelFolder, text: str, said: str) -> None:
    folder.config_file.write_text(text)
    with pytest.raises(RepositoryError, match=said) as caught:
        read_config(folder)
    assert str(caught.value).startswith(f"{folder.config_file}:1: ")


def test_what_changes_nothing_for_this_server_is_read(folder: ModelFolder) -> None:
    text = """
        name: "digits" platform: "onnxruntime_onnx" backend: "onnxruntime" max_batch_size: 8
        instance_group [ { count: 1 kind: KIND_CPU } ]  # a comment
        optimization { graph { level: 1 } }
        dynamic_batching { preferred_batch_size: [ 4, 8 ] preserve_ordering: true }
    """
    assert resolved(folder, text).batching.max_batch_size == 8


CONTRADICTIONS = {
    "an input that is not there": (
        BATCHES + tensor("input", "picture", "UINT8", 28, 28, 1),
        'the model has no tensor "picture" there; it has image',
    ),
    "an output among the inputs": (
        BATCHES + tensor("input", "scores", "FP32", 3),
        'the model has no tensor "scores" there; it has image',
    ),
    "an output that is not there": (
        BATCHES + tensor("output", "logits", "FP32", 3),
        'the model has no tensor "logits" there; it has scores',
    ),
    "another type": (
        BATCHES + tensor("input", "image", "FP32", 28, 28, 1),
        "data_type of image is TYPE_FP32, the model's is TYPE_UINT8",
    ),
    "no type": (
        BATCHES + NO_TYPE,
        "data_type of image is TYPE_INVALID, the model's is TYPE_UINT8",
    ),
    "another dimension": (
        BATCHES + tensor("output", "scores", "FP32", 4),
        r"dims of scores are \[4\], the model's are \[3\]",
    ),
    "another rank": (
        BATCHES + tensor("input", "image", "UINT8", 28, 28),
        r"dims of image are \[28, 28\], the model's are \[28, 28, 1\]",
    ),
    "the batch dimension among the dims": (
        BATCHES + tensor("output", "scores", "FP32", -1, 3),
        r"dims of scores are \[-1, 3\], the model's are \[3\]",
    ),
    "the batch dimension missing where there is no batching": (
        tensor("output", "scores", "FP32", 3),
        r"dims of scores are \[3\], the model's are \[-1, 3\]",
    ),
}


@pytest.mark.parametrize(("text", "said"), CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_a_config_that_contradicts_the_graph_is_refused(folder: ModelFolder, text: str, said: str) -> None:
    with pytest.raises(RepositoryError, match=said) as caught:
        resolved(folder, text)
    assert str(caught.value).startswith(f"{folder.config_file}:1: ")


@pytest.mark.parametrize(
    ("inputs", "outputs", "tensor"),
    [
        pytest.param((TensorSpec("image", BY_NAME["UINT8"], (1, 28)),), (SCORES,), "image", id="of an input"),
        pytest.param((IMAGE,), (TensorSpec("scores", BY_NAME["FP32"], (3,)),), "scores", id="of an output"),
        pytest.param((IMAGE,), (TensorSpec("scores", BY_NAME["FP32"], ()),), "scores", id="which is not there"),
    ],
)
def test_batching_without_a_free_first_dimension_is_refused(
    folder: ModelFolder, inputs: tuple[Any, ...], outputs: tuple[Any, ...], tensor: str
) -> None:
    with pytest.raises(RepositoryError, match=f"the first dimension of {tensor} is fixed.*max_batch_size: 0"):
        resolved(folder, "max_batch_size: 8", inputs, outputs)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(BATCHES + tensor("input", "image", "UINT8", 28, 28, 1), id="equal"),
        pytest.param(
            BATCHES + tensor("input", "image", "UINT8", -1, -1, 1),
            id="freer than the graph",
        ),
        pytest.param(tensor("input", "image", "UINT8", 5, 28, 28, 1), id="narrower than the graph"),
        pytest.param("max_batch_size: 8", id="silent"),
    ],
)
def test_the_graphs_own_signature_holds_where_the_config_agrees(folder: ModelFolder, text: str) -> None:
    config = resolved(folder, text)
    assert (config.name, config.inputs, config.outputs) == ("digits", (IMAGE,), (SCORES,))


@pytest.mark.parametrize(
    ("text", "write"),
    [
        pytest.param('name: "letters"', 'name: "digits"', id="name"),
        pytest.param('platform: "tensorrt_plan"', 'platform: "onnxruntime_onnx"', id="platform"),
        pytest.param("max_batch_size: -1", "max_batch_size: 0", id="max_batch_size"),
        pytest.param('input { name: "imag" }', 'name: "image"', id="a name like another"),
        pytest.param('input { name: "x" }', 'name: "image"', id="a name like none"),
        pytest.param(BATCHES + NO_TYPE, "data_type: TYPE_UINT8", id="data_type"),
        pytest.param('input { name: "image" data_type: 99 }', "data_type: TYPE_UINT8", id="a type that is no type"),
        pytest.param(BATCHES + tensor("output", "scores", "FP32", 4), "dims: [ 3 ]", id="dims"),
        pytest.param(
            'parameters { key: "inversion" value { string_value: "maybe" } }',
            'parameters { key: "inversion" value { string_value: "never" } }',
            id="inversion",
        ),
        pytest.param('default_model_filename: "../a.onnx"', 'default_model_filename: "model.onnx"', id="model file"),
        pytest.param(
            "max_batch_size: 8 dynamic_batching { preferred_batch_size: [ 9, 4 ] }",
            "preferred_batch_size: [ 4 ]",
            id="preferred sizes",
        ),
    ],
)
def test_what_is_wrong_comes_with_what_to_write(folder: ModelFolder, text: str, write: str) -> None:
    with pytest.raises(RepositoryError) as caught:
        resolved(folder, f"# A comment\n{text}")
    assert (caught.value.path, caught.value.line, caught.value.write) == (folder.config_file, 2, write)


def test_what_to_write_can_be_read_back_whatever_a_tensor_is_called(folder: ModelFolder) -> None:
    name = '{"1": "one\\two"}'
    with pytest.raises(RepositoryError) as caught:
        resolved(folder, 'input { name: "other" }', inputs=(replace(IMAGE, name=name),))
    assert text_format.Parse(caught.value.write, pb.ModelInput()).name == name


def test_everything_wrong_with_a_config_alone_is_found_at_once(folder: ModelFolder) -> None:
    folder.config_file.write_text(
        'nam: "letters"\nbackend: "python"\nensemble_scheduling { }\nmax_batch_size: -4\n'
        'instance_group [ { kind: KIND_MODEL }, { count: -1 } ]\ndefault_model_filename: ".."\n'
        "dynamic_batchin { preferred_batch_size: 2 }"
    )
    config, errors = examine_config(folder)
    assert config is None
    assert [error.line for error in errors] == [1, 7, 7]
    text = folder.config_file.read_text()
    folder.config_file.write_text(text[: text.index("dynamic")])
    config, errors = examine_config(folder)
    assert config is not None
    # The name is on no line before its field is spelt right.
    assert [error.line for error in errors] == [1, None, 2, 3, 4, 6, 5, 5]


def test_a_reshape_that_changes_nothing_is_read(folder: ModelFolder) -> None:
    text = BATCHES + tensor("output", "scores", "FP32", 3, more="reshape { shape: [ 3 ] }")
    assert resolved(folder, text).outputs == (SCORES,)
    assert read_reshapes(read_config(folder)) == {}


@pytest.mark.parametrize(
    ("dims", "reshape", "said", "write"),
    [
        ([3, 3], "9", r"reshape of scores is \[9\], the model's shape is \[3, 3\]", "reshape { shape: [ 3, 3 ] }"),
        ([9], "9, 1", r"reshape of scores is \[9, 1\], the model's shape is \[3, 3\]", "reshape { shape: [ 3, 3 ] }"),
        ([3, 3], "", "another number of elements", "reshape { shape: [ 3, 3 ] }"),
        ([8], "3, 3", "another number of elements; .*; remove the reshape", "dims: [ 3, 3 ]"),
    ],
)
def test_a_reshape_to_what_the_model_is_not_is_refused_with_what_it_is(
    folder: ModelFolder, dims: list[int], reshape: str, said: str, write: str
) -> None:
    spec = TensorSpec("scores", BY_NAME["FP32"], (FREE, 3, 3))
    text = BATCHES + tensor("output", "scores", "FP32", *dims, more=f"reshape {{ shape: [ {reshape} ] }}")
    with pytest.raises(RepositoryError, match=said) as caught:
        resolved(folder, text, outputs=(spec,))
    assert caught.value.write == write


def test_a_reshape_that_keeps_the_elements_is_read_for_the_session(folder: ModelFolder) -> None:
    folder.config_file.write_text(BATCHES + tensor("output", "scores", "FP32", 9, more="reshape { shape: [ 3, 3 ] }"))
    assert read_reshapes(read_config(folder)) == {"scores": Reshape((FREE, 9), (FREE, 3, 3))}
    folder.config_file.write_text(tensor("output", "scores", "FP32", 9, more="reshape { shape: [ 1, 3, 3 ] }"))
    assert read_reshapes(read_config(folder)) == {"scores": Reshape((9,), (1, 3, 3))}
    # As Triton writes a tensor that has the batch dimension alone.
    folder.config_file.write_text(BATCHES + tensor("output", "scores", "FP32", 1, more="reshape { shape: [ ] }"))
    assert read_reshapes(read_config(folder)) == {"scores": Reshape((FREE, 1), (FREE,))}
    assert read_reshapes(None) == {}


@pytest.mark.parametrize(
    ("shape", "batches"),
    [((1, 3, 1, 1), ""), ((3, 1, 1), ""), ((FREE, 3, 1, 1), BATCHES), ((FREE, 3), BATCHES), ((1, 3), "")],
)
def test_labels_count_the_classes_whatever_ones_are_around_them(
    folder: ModelFolder, shape: tuple[int, ...], batches: str
) -> None:
    (folder.path / "labels.txt").write_text("a\nb\nc\n")
    dims = shape[1:] if batches else shape
    spec, image = (TensorSpec(name, BY_NAME["FP32"], shape) for name in ("scores", "image"))
    text = batches + tensor("output", "scores", "FP32", *dims, more='label_filename: "labels.txt"')
    assert resolved(folder, text, (image,), (spec,)).outputs[0].labels == ("a", "b", "c")
    (folder.path / "labels.txt").write_text("a\nb\nc\nd\n")
    with pytest.raises(RepositoryError, match="4 labels; scores has 3 classes"):
        resolved(folder, text, (image,), (spec,))


def test_dims_of_one_stand_for_a_tensor_with_only_the_batch_dimension(folder: ModelFolder) -> None:
    age = TensorSpec("age", BY_NAME["FP32"], (FREE,))
    text = BATCHES + tensor("input", "age", "FP32", 1)
    assert resolved(folder, text, inputs=(age,)).inputs == (age,)


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        pytest.param("", BatchingPolicy(0, False, QueuePolicy(100)), id="nothing said"),
        pytest.param(
            "max_batch_size: 8", BatchingPolicy(8, False, QueuePolicy(100)), id="no dynamic_batching: not merged"
        ),
        pytest.param(
            "max_batch_size: 8 dynamic_batching { }", BatchingPolicy(8, True, QueuePolicy(100)), id="dynamic_batching"
        ),
        pytest.param("dynamic_batching { }", BatchingPolicy(0, False, QueuePolicy(100)), id="nothing to merge"),
        pytest.param(
            "max_batch_size: 8 dynamic_batching { max_queue_delay_microseconds: 1500 }",
            BatchingPolicy(8, True, QueuePolicy(100), 0.0015),
            id="a delay in microseconds",
        ),
        pytest.param(
            "max_batch_size: 8 dynamic_batching { default_queue_policy { max_queue_size: 7 } }",
            BatchingPolicy(8, True, QueuePolicy(7)),
            id="a queue size",
        ),
    ],
)
def test_a_config_says_how_requests_are_merged(folder: ModelFolder, text: str, policy: BatchingPolicy) -> None:
    assert resolved(folder, text).batching == policy


FIXED = TensorSpec("image", BY_NAME["UINT8"], (1, 28, 28, 1))


@pytest.mark.parametrize(
    ("inputs", "outputs", "policy"),
    [
        pytest.param((IMAGE,), (SCORES,), BatchingPolicy(64, True, QueuePolicy(100)), id="all free: batched"),
        pytest.param((FIXED,), (SCORES,), BatchingPolicy(0, False, QueuePolicy(100)), id="an input is fixed"),
        pytest.param(
            (IMAGE, FIXED), (SCORES,), BatchingPolicy(0, False, QueuePolicy(100)), id="one of two inputs is fixed"
        ),
        pytest.param(
            (IMAGE,),
            (SCORES, TensorSpec("count", BY_NAME["INT64"], ())),
            BatchingPolicy(0, False, QueuePolicy(100)),
            id="an output has no dimension",
        ),
    ],
)
def test_without_a_config_a_model_is_batched_where_every_first_dimension_is_free(
    folder: ModelFolder, inputs: tuple[Any, ...], outputs: tuple[Any, ...], policy: BatchingPolicy
) -> None:
    config = resolved(folder, None, inputs, outputs)
    assert (config.name, config.batching, config.inputs, config.outputs) == ("digits", policy, inputs, outputs)


LABELLED = BATCHES + tensor("output", "scores", "FP32", 3, more='label_filename: "labels.txt"')


def test_labels_come_from_their_file_one_a_line(folder: ModelFolder) -> None:
    (folder.path / "labels.txt").write_text("zero\neins\nübrige\n")
    config = resolved(folder, LABELLED)
    assert config.outputs[0].labels == ("zero", "eins", "übrige")


EMBEDDING = TensorSpec("embedding", BY_NAME["FP32"], (FREE, 16))
COUNTS = TensorSpec("counts", BY_NAME["INT64"], (FREE,))


@pytest.mark.parametrize(
    ("outputs", "labelled", "takes_pictures"),
    [
        pytest.param((SCORES,), False, True, id="one"),
        pytest.param((COUNTS, SCORES), False, True, id="the only one of scores"),
        pytest.param((EMBEDDING, SCORES), False, False, id="either could be"),
        pytest.param((EMBEDDING, SCORES), True, True, id="one has labels"),
        pytest.param((COUNTS,), False, False, id="none"),
    ],
)
def test_a_model_takes_pictures_where_it_is_plain_which_output_has_the_scores(
    folder: ModelFolder, outputs: tuple[Any, ...], labelled: bool, takes_pictures: bool
) -> None:
    (folder.path / "labels.txt").write_text("zero\neins\nübrige\n")
    config = resolved(folder, LABELLED if labelled else BATCHES, (IMAGE,), outputs)
    assert (config.pictures is not None) is takes_pictures


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(None, r"labels\.txt: cannot be read.*one class label a line", id="missing"),
        pytest.param(b"a\nb\n", r"labels\.txt: 2 labels; scores has 3 classes", id="too few"),
        pytest.param(b"a\nb\nc\nd\n", r"labels\.txt: 4 labels; scores has 3 classes", id="too many"),
        pytest.param(b"", r"labels\.txt: 0 labels; scores has 3 classes", id="empty"),
        pytest.param(b"\xff\n\xfe\n\xfd\n", r"labels\.txt: cannot be read", id="not text"),
        pytest.param(b"a\n" * 300_000, r"labels\.txt: .*300,000 lines; at most 262,144", id="too many for any model"),
        pytest.param(b"a\n" + b"b" * (8 << 20), r"labels\.txt: .*8,388,610 bytes; at most 8,388,608", id="too large"),
        pytest.param(b"a\nb\n" + b"c" * 1001, r"labels\.txt:3: has 1,001 characters; .* at most 1,000", id="no label"),
    ],
)
def test_a_label_file_that_does_not_fit_is_refused(folder: ModelFolder, content: bytes | None, said: str) -> None:
    if content is not None:
        (folder.path / "labels.txt").write_bytes(content)
    with pytest.raises(RepositoryError, match=said):
        resolved(folder, LABELLED)


def test_a_label_file_that_several_outputs_name_is_read_once(
    folder: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder.path / "labels.txt").write_text("a\nb\nc\n")
    read: list[Path] = []
    monkeypatch.setattr(labels, "read_lines", lambda path, most: read.append(path) or read_lines(path, most))
    twice = "".join(tensor("output", name, "FP32", 3, more='label_filename: "labels.txt"') for name in ("one", "two"))
    outputs = tuple(TensorSpec(name, SCORES.datatype, SCORES.shape) for name in ("one", "two"))
    config = resolved(folder, BATCHES + twice, outputs=outputs)
    assert [spec.labels for spec in config.outputs] == [("a", "b", "c")] * 2
    assert len(read) == 1


def test_a_configuration_that_is_too_large_is_refused_before_it_is_parsed(folder: ModelFolder) -> None:
    folder.config_file.write_text("#" * (256 << 10) + "\n")
    with pytest.raises(RepositoryError, match=r"config\.pbtxt: .*262,145 bytes; at most 262,144 are read"):
        read_config(folder)


def test_of_countless_mistakes_only_some_are_looked_for_and_their_lines_are_found_at_once(
    folder: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    searches: list[str] = []
    fields = pbtxt._fields
    monkeypatch.setattr(pbtxt, "_fields", lambda text: searches.append(text) or fields(text))
    folder.config_file.write_text("instance_group { count: -1 }\n" * 5000)
    _, errors = examine_config(folder)
    assert [error.line for error in errors] == list(range(1, 21))
    assert len(searches) == 1


@pytest.mark.parametrize("name", ["../labels.txt", "/etc/hostname", "1/labels.txt", ".", "..", "x" * 256])
def test_a_label_file_elsewhere_is_refused(folder: ModelFolder, name: str) -> None:
    (folder.path.parent / "labels.txt").write_text("a\nb\nc\n")
    text = LABELLED.replace("labels.txt", name)
    with pytest.raises(RepositoryError, match=f"label_filename {name} is not a file beside config.pbtxt"):
        resolved(folder, text)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_files_that_windows_wrote_are_read_as_any_others(folder: ModelFolder, encoding: str) -> None:
    folder.config_file.write_bytes(LABELLED.replace(" output", "\r\noutput").encode(encoding))
    (folder.path / "labels.txt").write_bytes("null\r\neins\r\nübrige\r\n\r\n".encode(encoding))
    config = resolve(folder, read_config(folder), (IMAGE,), (SCORES,), DEFAULTS)
    assert config.outputs[0].labels == ("null", "eins", "übrige")


def test_zeros_in_the_name_of_a_file_are_refused(folder: ModelFolder) -> None:
    with pytest.raises(RepositoryError, match=r"is not a file beside config\.pbtxt"):
        resolved(folder, LABELLED.replace("labels.txt", r"a\000b"))
    with pytest.raises(RepositoryError, match="is not the name of a file in the version folder"):
        resolved(folder, r'default_model_filename: "a\000b"')


def test_a_single_number_a_row_is_a_single_class(folder: ModelFolder) -> None:
    (folder.path / "labels.txt").write_text("a\nb\nc\n")
    spec = TensorSpec("scores", BY_NAME["FP32"], (FREE, 1))
    text = BATCHES + tensor("output", "scores", "FP32", 1, more='label_filename: "labels.txt"')
    with pytest.raises(RepositoryError, match="3 labels; scores has 1 classes"):
        resolved(folder, text, outputs=(spec,))


def test_any_number_of_labels_fits_a_free_number_of_classes(folder: ModelFolder) -> None:
    (folder.path / "labels.txt").write_text("a\nb\n")
    scores = TensorSpec("scores", BY_NAME["FP32"], (FREE, FREE))
    config = resolved(folder, LABELLED, outputs=(scores,))
    assert config.outputs[0].labels == ("a", "b")


@pytest.mark.parametrize(
    ("policy", "served"),
    [
        pytest.param("", [10], id="the latest by default"),
        pytest.param("version_policy { latest { } }", [10], id="latest without a number"),
        pytest.param("version_policy { latest { num_versions: 2 } }", [2, 10], id="the latest two, by number"),
        pytest.param("version_policy { latest { num_versions: 9 } }", [1, 2, 10], id="more than there are"),
        pytest.param("version_policy { all { } }", [1, 2, 10], id="all"),
        pytest.param("version_policy { specific { versions: [ 10, 1, 7 ] } }", [1, 10], id="specific ones on disk"),
        pytest.param("version_policy { specific { versions: [ 7 ] } }", [], id="specific ones, none on disk"),
    ],
)
def test_the_version_policy_selects_versions(folder: ModelFolder, policy: str, served: list[int]) -> None:
    folder.config_file.write_text(policy)
    assert select_versions(read_config(folder), [10, 1, 2]) == served


def test_without_a_config_the_latest_version_is_served() -> None:
    assert select_versions(None, [10, 1, 2]) == [10]


def test_the_model_file_has_a_default_name_and_may_have_another(folder: ModelFolder) -> None:
    assert model_file_name(None) == "model.onnx"
    folder.config_file.write_text('default_model_filename: "net.onnx"')
    assert model_file_name(read_config(folder)) == "net.onnx"


@pytest.mark.parametrize("name", ["../../secret.onnx", "/etc/hostname", ".."])
def test_a_model_file_elsewhere_is_refused(folder: ModelFolder, name: str) -> None:
    folder.config_file.write_text(f'default_model_filename: "{name}"')
    with pytest.raises(RepositoryError, match="is not the name of a file in the version folder"):
        model_file_name(read_config(folder))


def test_a_label_file_may_be_a_link_as_kubernetes_mounts_it(folder: ModelFolder) -> None:
    mounted = folder.path.parent / "labels-of-today.txt"
    mounted.write_text("a\nb\nc\n")
    (folder.path / "labels.txt").unlink(missing_ok=True)
    (folder.path / "labels.txt").symlink_to(mounted)
    assert resolved(folder, LABELLED).outputs[0].labels == ("a", "b", "c")


def declared(picture: str, inversion: str) -> str:
    """Returns a config.pbtxt that has both parameters."""
    values = {"picture": picture, "inversion": inversion}
    return BATCHES + " ".join(
        f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}' for key, value in values.items()
    )


@pytest.mark.parametrize(("picture", "inversion"), [("inversion=auto", "auto"), ("fit=stretch", "auto")])
def test_the_parameter_inversion_goes_with_a_declared_picture(
    folder: ModelFolder, picture: str, inversion: str
) -> None:
    pictures = resolved(folder, declared(picture, inversion), (IMAGE,)).pictures
    assert pictures is not None
    assert pictures.inversion == inversion


def test_two_inversions_that_contradict_each_other_are_refused(folder: ModelFolder) -> None:
    with pytest.raises(RepositoryError, match="has inversion=always, parameter inversion is never; keep one"):
        resolved(folder, declared("inversion=always", "never"), (IMAGE,))
