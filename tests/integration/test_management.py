"""What is said of models and of the server, beside inference: configurations, the repository's index."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from pixelserve.oip import inference_pb2 as pb
from pixelserve.oip import inference_pb2_grpc
from pixelserve.oip import model_config_pb2 as config_pb

CONFIGURED = """
max_batch_size: 8
version_policy { all { } }
dynamic_batching { preferred_batch_size: [ 4 ] max_queue_delay_microseconds: 100 }
output [ { name: "doubled" data_type: TYPE_FP32 dims: [ 4 ] label_filename: "labels.txt" } ]
parameters { key: "origin" value { string_value: "here" } }
instance_group [ { count: 2 kind: KIND_CPU } ]
"""


@pytest.fixture(scope="module")
def server(
    start_module_server: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
    model_writer: Callable[..., Path],
    graph_writer: Callable[..., Path],
) -> Any:
    """A server on models of several kinds, some of which cannot be loaded."""
    path = tmp_path_factory.mktemp("repository")
    for version in (1, 2):
        model_writer(path / "configured" / str(version) / "model.onnx")
    (path / "configured" / "3").mkdir()
    (path / "configured" / "3" / "model.onnx").write_bytes(b"damaged")
    (path / "configured" / "config.pbtxt").write_text(CONFIGURED)
    (path / "configured" / "labels.txt").write_text("cat\ndog\nowl\ncow\n")
    # No config.pbtxt: batching by its signature, and the latest version.
    for version in (9, 10):
        model_writer(path / "plain" / str(version) / "model.onnx")
    column = ("INT64", ["N"])
    graph_writer(path / "column" / "1" / "model.onnx", {"x": column}, {"y": column}, ("Neg", "x", "y"))
    model_writer(path / "fixed" / "1" / "model.onnx", rows=1)
    model_writer(path / "alone" / "1" / "model.onnx")
    (path / "alone" / "config.pbtxt").write_text("max_batch_size: 4")
    model_writer(path / "misread" / "1" / "model.onnx")
    (path / "misread" / "config.pbtxt").write_text("max_batch_size: many")
    return start_module_server(path, "--no-exit-on-error", "--device", "cpu")


@pytest.fixture(scope="module")
def channel(server: Any) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.grpc) as channel:
        yield channel


@pytest.fixture(scope="module")
def stub(channel: grpc.Channel) -> Any:
    return inference_pb2_grpc.GRPCInferenceServiceStub(channel)


def config_of(stub: Any, name: str, version: str = "") -> config_pb.ModelConfig:
    config: config_pb.ModelConfig = stub.ModelConfig(pb.ModelConfigRequest(name=name, version=version)).config
    return config


def refusal(call: Callable[[], object]) -> tuple[str, str]:
    """Returns the status and the message of a call that must fail."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code().name, caught.value.details()


def tensors(entries: Any) -> list[tuple[str, str, list[int]]]:
    return [(entry.name, config_pb.DataType.Name(entry.data_type), list(entry.dims)) for entry in entries]


def test_a_configuration_is_what_config_pbtxt_says_completed_by_the_graph(stub: Any) -> None:
    config = config_of(stub, "configured")
    assert (config.name, config.platform, config.backend) == ("configured", "onnxruntime_onnx", "onnxruntime")
    assert config.max_batch_size == 8
    assert tensors(config.input) == [("values", "TYPE_FP32", [4])]
    assert tensors(config.output) == [("doubled", "TYPE_FP32", [4])]
    assert config.output[0].label_filename == "labels.txt"
    assert config.version_policy.WhichOneof("policy_choice") == "all"
    assert list(config.dynamic_batching.preferred_batch_size) == [4]
    assert config.dynamic_batching.max_queue_delay_microseconds == 100
    assert config.dynamic_batching.default_queue_policy.max_queue_size == 1024
    assert config.parameters["origin"].string_value == "here"
    assert config.default_model_filename == "model.onnx"
    (group,) = config.instance_group
    assert (group.count, group.kind) == (2, config_pb.ModelInstanceGroup.KIND_CPU)


def test_without_config_pbtxt_it_is_what_holds(stub: Any) -> None:
    config = config_of(stub, "plain", "10")
    assert config.max_batch_size == 64
    assert config.version_policy.latest.num_versions == 1
    assert config.WhichOneof("scheduling_choice") == "dynamic_batching"
    assert tensors(config.input) == [("values", "TYPE_FP32", [4])]
    (group,) = config.instance_group
    assert (group.name, group.count, group.kind) == ("plain_0", 1, config_pb.ModelInstanceGroup.KIND_CPU)


def test_a_model_whose_requests_are_not_merged_has_no_scheduling(stub: Any) -> None:
    assert config_of(stub, "alone").WhichOneof("scheduling_choice") is None


def test_without_a_batch_dimension_dims_are_the_whole_shape(stub: Any) -> None:
    config = config_of(stub, "fixed")
    assert config.max_batch_size == 0
    assert config.WhichOneof("scheduling_choice") is None
    assert tensors(config.input) == [("values", "TYPE_FP32", [1, 4])]


def test_a_tensor_with_the_batch_dimension_alone_is_reshaped_as_in_triton(stub: Any) -> None:
    config = config_of(stub, "column")
    assert tensors(config.input) == [("x", "TYPE_INT64", [1])]
    assert config.input[0].HasField("reshape")
    assert list(config.input[0].reshape.shape) == []


@pytest.mark.parametrize(
    ("name", "version", "code", "said"),
    [
        ("none", "", "NOT_FOUND", 'no model "none"'),
        ("configured", "7", "NOT_FOUND", "no version 7"),
        ("configured", "3", "UNAVAILABLE", "version 3 of model configured failed to load"),
        ("configured", "x", "INVALID_ARGUMENT", "expected a positive integer"),
        ("misread", "", "NOT_FOUND", "no version of model misread is ready"),
    ],
)
def test_the_configuration_of_what_is_not_there_is_refused(
    stub: Any, name: str, version: str, code: str, said: str
) -> None:
    found, details = refusal(lambda: config_of(stub, name, version))
    assert (found, said in details) == (code, True), details


def index(stub: Any, **fields: Any) -> list[tuple[str, str, str]]:
    models = stub.RepositoryIndex(pb.RepositoryIndexRequest(**fields)).models
    return [(each.name, each.version, each.state) for each in models]


READY = [
    ("alone", "1", "READY"),
    ("column", "1", "READY"),
    ("configured", "1", "READY"),
    ("configured", "2", "READY"),
    ("fixed", "1", "READY"),
    ("plain", "10", "READY"),
]
OTHERS = [("configured", "3", "UNAVAILABLE"), ("misread", "", "UNAVAILABLE"), ("plain", "9", "UNAVAILABLE")]


def test_the_index_has_every_version_on_disk_by_model_and_number(stub: Any) -> None:
    found = index(stub)
    assert sorted(found) == sorted(READY + OTHERS)
    assert [version for name, version, _ in found if name == "configured"] == ["1", "2", "3"]
    assert [version for name, version, _ in found if name == "plain"] == ["9", "10"]


def test_the_index_of_what_is_ready(stub: Any) -> None:
    assert index(stub, ready=True) == READY


def test_the_index_says_why_a_version_is_not_ready(stub: Any) -> None:
    models = stub.RepositoryIndex(pb.RepositoryIndexRequest()).models
    reasons = {(each.name, each.version): each.reason for each in models}
    assert "configured/3/model.onnx" in reasons["configured", "3"]
    assert "config.pbtxt" in reasons["misread", ""]
    assert reasons["plain", "9"] == "the version policy does not serve it"
    assert {reasons[name, version] for name, version, _ in READY} == {""}


def test_the_index_of_another_repository_is_refused(stub: Any) -> None:
    code, details = refusal(lambda: index(stub, repository_name="other"))
    assert (code, "leave the name out" in details) == ("UNIMPLEMENTED", True)
