"""External data of ONNX files: permitted and forbidden files."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pixelserve.card import Card, CardError, sha256_of, verify_model_file
from pixelserve.external_data import ExternalDataError, external_files, external_hashes, find_model_file
from pixelserve.onnx import model_pb2

Place = Callable[[TensorProto], onnx.ModelProto]


def external(location: str) -> TensorProto:
    """Returns a tensor [4] whose elements are in a file."""
    tensor = numpy_helper.from_array(np.ones(4, np.float32), "w")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return tensor


def graph(*nodes: onnx.NodeProto, initializers: tuple[TensorProto, ...] = ()) -> onnx.GraphProto:
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])
    return helper.make_graph(list(nodes), "g", [], [y], list(initializers))


def whole(made: onnx.GraphProto) -> onnx.ModelProto:
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def constant(tensor: TensorProto) -> onnx.NodeProto:
    return helper.make_node("Constant", [], ["y"], value=tensor)


def sparse(values: TensorProto, indices: TensorProto) -> onnx.SparseTensorProto:
    return onnx.SparseTensorProto(values=values, indices=indices, dims=[4])


INDICES = numpy_helper.from_array(np.zeros(1, np.int64))


def of_sparse_initializer(tensor: TensorProto) -> onnx.ModelProto:
    model = whole(graph())
    model.graph.sparse_initializer.append(sparse(tensor, INDICES))
    return model


def of_sparse_indices(tensor: TensorProto) -> onnx.ModelProto:
    model = whole(graph())
    model.graph.sparse_initializer.append(sparse(INDICES, tensor))
    return model


def of_branch(tensor: TensorProto) -> onnx.ModelProto:
    branch = graph(constant(tensor))
    inner = graph(helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch))
    return whole(graph(helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)))


def of_function(tensor: TensorProto) -> onnx.ModelProto:
    model = whole(graph())
    opsets = [helper.make_opsetid("", 17)]
    model.functions.append(helper.make_function("d", "F", [], ["y"], [constant(tensor)], opsets))
    return model


def of_functions_default(tensor: TensorProto) -> onnx.ModelProto:
    model = of_function(INDICES)
    model.functions[0].attribute_proto.append(helper.make_attribute("w", tensor))
    return model


def of_lists(tensor: TensorProto) -> onnx.ModelProto:
    node = helper.make_node("Anything", [], ["y"], many=[INDICES, tensor], graphs=[graph()])
    return whole(graph(node))


def of_training(tensor: TensorProto) -> onnx.ModelProto:
    model = whole(graph())
    model.training_info.add().algorithm.CopyFrom(graph(initializers=(tensor,)))
    return model


PLACES: dict[str, Place] = {
    "an initializer": lambda tensor: whole(graph(initializers=(tensor,))),
    "a constant": lambda tensor: whole(graph(constant(tensor))),
    "the values of a sparse initializer": of_sparse_initializer,
    "the indices of a sparse initializer": of_sparse_indices,
    "a sparse constant": lambda tensor: whole(
        graph(helper.make_node("Constant", [], ["y"], sparse_value=sparse(tensor, INDICES)))
    ),
    "a branch in a branch": of_branch,
    "a function": of_function,
    "a function's default": of_functions_default,
    "a list of tensors": of_lists,
    "what a model is trained with": of_training,
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Where a test writes its model; beside it is a file of weights, and outside of its folder another."""
    folder = tmp_path / "m" / "1"
    folder.mkdir(parents=True)
    (folder / "weights.bin").write_bytes(np.ones(4, np.float32).tobytes())
    (tmp_path / "secret").write_bytes(b"secret")
    return folder / "model.onnx"


def write(model: Path, location: str, place: Place = PLACES["an initializer"]) -> Path:
    model.write_bytes(place(external(location)).SerializeToString())
    return model


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_every_place_that_a_tensor_may_have_is_looked_at(model: Path, place: Place) -> None:
    assert external_files(write(model, "weights.bin", place)) == ("weights.bin",)
    with pytest.raises(ExternalDataError):
        external_files(write(model, "../../secret", place))


@pytest.mark.parametrize(
    "location",
    [
        *("/etc/hostname", "../../secret", "weights.bin/../../../secret", "..", ".", "", "a\0b", "caf\udce9"),
        *("*/_ORT_MEM_ADDR_/*", "line\nbreak"),
    ],
)
def test_what_is_not_the_name_of_a_file_beside_the_model_is_refused(model: Path, location: str) -> None:
    # With our own message definition, because onnx accepts only UTF-8 names.
    entry = model_pb2.StringStringEntryProto(key=b"location", value=location.encode(errors="surrogateescape"))
    tensor = model_pb2.TensorProto(external_data=[entry], data_location=model_pb2.TensorProto.EXTERNAL)
    made = model_pb2.ModelProto(graph=model_pb2.GraphProto(initializer=[tensor]))
    model.write_bytes(made.SerializeToString())
    with pytest.raises(ExternalDataError, match="expected the name of a file beside the model"):
        external_files(model)


@pytest.mark.parametrize("name", ["link", "folder/secret"], ids=["to a file", "through a folder"])
def test_a_link_out_of_the_models_folder_is_refused(model: Path, tmp_path: Path, name: str) -> None:
    (model.parent / "link").symlink_to(tmp_path / "secret")
    (model.parent / "folder").symlink_to(tmp_path)
    with pytest.raises(ExternalDataError, match="a link out of the model's folder"):
        external_files(write(model, name))


def test_links_within_the_folder_and_to_it_are_followed_as_kubernetes_mounts_files(model: Path, tmp_path: Path) -> None:
    data = model.parent / "..data"
    data.mkdir()
    (model.parent / "weights.bin").rename(data / "weights.bin")
    (model.parent / "weights.bin").symlink_to("..data/weights.bin")
    (tmp_path / "mounted").symlink_to(model.parent)
    write(model, "weights.bin")
    assert external_files(tmp_path / "mounted" / "model.onnx") == ("weights.bin",)


def test_a_missing_file_is_named(model: Path) -> None:
    with pytest.raises(ExternalDataError, match=r'its weights are in "gone\.bin", and there is no such file'):
        external_files(write(model, "gone.bin"))


def test_a_graph_that_mentions_no_file_is_not_parsed(model: Path) -> None:
    model.write_bytes(b"\xff not ONNX at all")
    assert external_files(model) == ()


def test_a_graph_that_may_name_files_and_cannot_be_parsed_is_refused(model: Path) -> None:
    model.write_bytes(write(model, "weights.bin").read_bytes()[:-3])
    with pytest.raises(ExternalDataError, match="not an ONNX model"):
        external_files(model)


def test_the_word_is_found_across_the_pieces_in_which_a_file_is_read(model: Path) -> None:
    made = PLACES["an initializer"](external("weights.bin"))
    at = made.SerializeToString().index(b"location")
    padding = (1 << 20) - at - 4
    # A field that comes before the graph, and moves it so far that the word lies on the edge of a piece.
    made.producer_name = "x" * (padding - 4)
    model.write_bytes(made.SerializeToString())
    assert model.read_bytes().index(b"location") < 1 << 20 < model.read_bytes().index(b"location") + 8
    assert external_files(model) == ("weights.bin",)


def test_a_name_that_is_left_over_from_weights_taken_in_is_not_a_files(model: Path) -> None:
    tensor = external("../../secret")
    tensor.data_location = TensorProto.DEFAULT
    model.write_bytes(PLACES["an initializer"](tensor).SerializeToString())
    assert external_files(model) == ()


def test_a_folder_of_the_models_name_holds_the_graph_as_in_triton(tmp_path: Path) -> None:
    assert find_model_file(tmp_path) == tmp_path / "model.onnx"
    (tmp_path / "net.onnx").mkdir()
    assert find_model_file(tmp_path, "net.onnx") == tmp_path / "net.onnx" / "model.onnx"


def card_of(model: Path, external_data: dict[str, str] | None) -> Card:
    return Card(
        name="m", task="tabular", sha256=sha256_of(model), external_data=external_data, created="2026-01-02T03:04:05Z"
    )


def test_a_card_vouches_for_the_weights_beside_the_graph(model: Path) -> None:
    write(model, "weights.bin")
    card = card_of(model, external_hashes(model))
    verify_model_file(card, model)
    (model.parent / "weights.bin").write_bytes(bytes(16))
    with pytest.raises(CardError, match=r"weights\.bin: SHA-256 is .*copy the version again"):
        verify_model_file(card, model)


def test_weights_that_a_card_does_not_have_are_not_vouched_for(model: Path) -> None:
    with pytest.raises(CardError, match=r"weights\.bin: holds weights of the model, and its card has no hash of it"):
        verify_model_file(card_of(write(model, "weights.bin"), None), model)
