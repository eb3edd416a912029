"""Management calls: configuration, the repository index, logging and tracing."""

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


def log_settings(stub: Any, **settings: bool | int | str | None) -> dict[str, bool | int | str]:
    """Sends log settings, each in the field of its type, and returns those that hold then."""
    request = pb.LogSettingsRequest()
    for name, value in settings.items():
        field = {bool: "bool_param", int: "uint32_param", str: "string_param"}.get(type(value))
        request.settings[name].SetInParent()
        if field is not None:
            setattr(request.settings[name], field, value)
    answer = stub.LogSettings(request).settings
    return {name: getattr(value, value.WhichOneof("parameter_choice")) for name, value in answer.items()}


AT_INFO = {
    **{"log_file": "", "log_format": "json", "log_verbose_level": 0},
    **{"log_info": True, "log_warning": True, "log_error": True},
}


@pytest.fixture
def at_info(stub: Any) -> Iterator[None]:
    """Puts the log's level back."""
    yield
    log_settings(stub, log_verbose_level=0, log_info=True)


def test_log_settings_without_a_change_are_those_that_hold(stub: Any) -> None:
    assert log_settings(stub) == AT_INFO
    assert log_settings(stub, log_file="", log_format="json", log_error=None) == AT_INFO


@pytest.mark.usefixtures("at_info")
@pytest.mark.parametrize(
    ("asked", "differs"),
    [
        ({"log_info": True}, {}),
        ({"log_error": True}, {}),
        ({"log_verbose_level": 3}, {"log_verbose_level": 1}),
        ({"log_info": False}, {"log_info": False}),
        ({"log_warning": False}, {"log_info": False, "log_warning": False}),
        ({"log_info": False, "log_warning": False, "log_error": True}, {"log_info": False, "log_warning": False}),
    ],
)
def test_the_log_level_is_changed_by_switches(stub: Any, asked: dict[str, Any], differs: dict[str, Any]) -> None:
    assert log_settings(stub, **asked) == AT_INFO | differs
    assert log_settings(stub) == AT_INFO | differs


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"log_colour": "red"}, 'log setting "log_colour" is unknown; expected log_verbose_level, log_info'),
        ({"log_colour": None}, 'log setting "log_colour" is unknown'),
        ({"log_file": "/tmp/log"}, 'log_file is "" and cannot be changed'),
        ({"log_format": "ISO8601"}, 'log_format is "json" and cannot be changed'),
        ({"log_info": 1}, "log_info came as uint32_param; expected bool_param"),
        ({"log_verbose_level": True}, "log_verbose_level came as bool_param; expected uint32_param"),
        ({"log_error": False}, "errors are always logged"),
        ({"log_info": True, "log_warning": False}, "log_info is on and log_warning is off"),
        ({"log_warning": False, "log_colour": "red"}, "unknown"),
    ],
)
def test_log_settings_that_cannot_be_are_refused_and_change_nothing(
    stub: Any, asked: dict[str, Any], said: str
) -> None:
    code, details = refusal(lambda: log_settings(stub, **asked))
    assert (code, said in details) == ("INVALID_ARGUMENT", True), details
    assert log_settings(stub) == AT_INFO


@pytest.mark.usefixtures("at_info")
def test_a_change_of_the_level_is_logged_and_holds(server: Any, stub: Any, eventually: Callable[..., None]) -> None:
    """Timeline: 1. the level becomes error, which would not show it; 2. it becomes debug."""
    log_settings(stub, log_warning=False)
    log_settings(stub, log_verbose_level=1)

    def changes() -> list[tuple[object, object]]:
        return [(event["before"], event["after"]) for event in server.events() if event["event"] == "log level changed"]

    eventually(lambda: changes()[-2:] == [("info", "error"), ("error", "debug")])


TRACING_OFF = {
    "trace_level": ["OFF"],
    "trace_rate": ["1000"],
    "trace_count": ["-1"],
    "log_frequency": ["0"],
    "trace_file": [""],
    "trace_mode": ["triton"],
}


def trace_settings(stub: Any, model: str = "", **settings: list[str]) -> dict[str, list[str]]:
    request = pb.TraceSettingRequest(model_name=model)
    for name, values in settings.items():
        request.settings[name].value.extend(values)
    return {name: list(value.value) for name, value in stub.TraceSetting(request).settings.items()}


@pytest.mark.parametrize("model", ["", "plain"])
@pytest.mark.parametrize("asked", [{}, {"trace_level": ["OFF"]}, {"trace_rate": []}], ids=["none", "same", "default"])
def test_trace_settings_say_that_nothing_is_traced(stub: Any, model: str, asked: dict[str, list[str]]) -> None:
    assert trace_settings(stub, model, **asked) == TRACING_OFF


@pytest.mark.parametrize(
    ("model", "asked", "code", "said"),
    [
        ("", {"trace_level": ["TIMESTAMPS"]}, "UNIMPLEMENTED", "start it with --trace-endpoint"),
        ("plain", {"trace_rate": ["1"]}, "UNIMPLEMENTED", "this server traces nothing"),
        ("", {"trace_colour": ["red"]}, "INVALID_ARGUMENT", '"trace_colour" is unknown; expected trace_level'),
        ("none", {}, "NOT_FOUND", 'no model "none"'),
    ],
)
def test_trace_settings_that_cannot_be_are_refused(
    stub: Any, model: str, asked: dict[str, list[str]], code: str, said: str
) -> None:
    found, details = refusal(lambda: trace_settings(stub, model, **asked))
    assert (found, said in details) == (code, True), details
