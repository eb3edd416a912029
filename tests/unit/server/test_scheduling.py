"""Batching and instances in config.pbtxt."""

from pathlib import Path

import pytest
from google.protobuf import text_format

from pixelserve.oip import model_config_pb2 as pb
from pixelserve_server.engine.policy import BatchingPolicy, QueuePolicy
from pixelserve_server.errors import RepositoryError
from pixelserve_server.repository.layout import ModelFolder
from pixelserve_server.repository.scheduling import Placement, read_batching, read_instances

FOLDER = ModelFolder(Path("models/digits"))
QUEUE = QueuePolicy(100)


def batching(text: str) -> BatchingPolicy:
    return read_batching(FOLDER, text_format.Parse(text, pb.ModelConfig()), 100)


def dynamic(text: str) -> BatchingPolicy:
    """Returns the policy of a model of up to 8 rows, with this in its dynamic_batching."""
    return batching(f"max_batch_size: 8 dynamic_batching {{ {text} }}")


def instances(text: str) -> tuple[Placement, ...]:
    return read_instances(FOLDER, text_format.Parse(text, pb.ModelConfig()))


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        pytest.param("", BatchingPolicy(0, False, QUEUE), id="nothing said"),
        pytest.param("max_batch_size: 8", BatchingPolicy(8, False, QUEUE), id="no dynamic_batching: not merged"),
        pytest.param("dynamic_batching { }", BatchingPolicy(0, False, QUEUE), id="no batch dimension: not merged"),
        pytest.param("max_batch_size: 8 dynamic_batching { }", BatchingPolicy(8, True, QUEUE), id="merged"),
    ],
)
def test_requests_are_merged_where_there_is_dynamic_batching_and_a_batch(text: str, policy: BatchingPolicy) -> None:
    assert batching(text) == policy


def target(value: str, default_s: float = 0.05) -> float:
    """Returns the latency target of a model with this parameter, in seconds."""
    text = f'parameters {{ key: "target_p99_ms" value {{ string_value: "{value}" }} }}'
    return read_batching(FOLDER, text_format.Parse(text, pb.ModelConfig()), 100, default_s).target_p99_s


def test_a_models_latency_target_overrides_the_servers() -> None:
    assert read_batching(FOLDER, pb.ModelConfig(), 100, 0.05).target_p99_s == 0.05
    assert (target("12.5"), target("0")) == (0.0125, 0.0)


@pytest.mark.parametrize("value", ["soon", "-1", "nan", "inf", ""])
def test_a_latency_target_that_is_no_time_is_refused(value: str) -> None:
    with pytest.raises(RepositoryError, match=f'parameter target_p99_ms is "{value}"; expected milliseconds'):
        target(value)


def test_every_field_of_dynamic_batching_is_read() -> None:
    policy = dynamic(
        """
        preferred_batch_size: [ 4, 2, 4 ] max_queue_delay_microseconds: 1500 preserve_ordering: true
        priority_levels: 3 default_priority_level: 2
        default_queue_policy { max_queue_size: 7 default_timeout_microseconds: 2500 allow_timeout_override: true }
        priority_queue_policy { key: 3 value { timeout_action: DELAY default_timeout_microseconds: 1000000 } }
        """
    )
    assert policy == BatchingPolicy(
        max_batch_size=8,
        merge=True,
        queue=QueuePolicy(7, 0.0025, allow_timeout_override=True),
        max_queue_delay_s=0.0015,
        preferred_batch_sizes=(2, 4),
        priority_levels=3,
        default_priority=2,
        # A level's policy replaces the default as a whole; a size that it does not name is the server's.
        levels={3: QueuePolicy(100, 1.0, "delay")},
        preserve_ordering=True,
    )


@pytest.mark.parametrize(
    ("text", "level"),
    [
        pytest.param("", 1, id="nothing said"),
        pytest.param("priority_levels: 1 default_priority_level: 1", 1, id="one level"),
        pytest.param("priority_levels: 3 default_priority_level: 3", 3, id="three"),
        pytest.param("default_priority_level: 5", 1, id="a default without levels, which Triton ignores"),
    ],
)
def test_a_request_without_a_priority_has_a_level_that_exists(text: str, level: int) -> None:
    policy = dynamic(text)
    assert policy.level_of(0) == level <= policy.priority_levels


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("preferred_batch_size: [ 4, 9 ]", r"\[4, 9\]; expected sizes of 1 to 8", id="over the batch"),
        pytest.param("preferred_batch_size: 0", r"\[0\]; expected sizes of 1 to 8", id="no rows"),
        pytest.param("preferred_batch_size: -1", r"\[-1\]; expected sizes of 1 to 8", id="fewer than none"),
        pytest.param("priority_levels: 1001 default_priority_level: 1", "1001; expected 1 to 1000", id="many levels"),
        pytest.param("priority_levels: 18446744073709551615", "expected 1 to 1000", id="2**64 - 1 levels"),
        pytest.param("priority_levels: 2", "default_priority_level is 0; expected 1 to 2", id="no default level"),
        pytest.param(
            "priority_levels: 2 default_priority_level: 3",
            "default_priority_level is 3; expected 1 to 2",
            id="a default that is no level",
        ),
        pytest.param(
            "priority_levels: 2 default_priority_level: 1 priority_queue_policy { key: 3 value { } }",
            r"priority_queue_policy has level \[3\]; expected 1 to 2",
            id="a policy of no level",
        ),
        pytest.param(
            "priority_levels: 2 default_priority_level: 1 priority_queue_policy { key: 0 value { } }",
            r"priority_queue_policy has level \[0\]; expected 1 to 2",
            id="a policy of level 0",
        ),
    ],
)
def test_batching_that_cannot_be_meant_is_refused_with_the_file_and_the_range(text: str, said: str) -> None:
    with pytest.raises(RepositoryError, match=said) as caught:
        dynamic(text)
    assert str(caught.value).startswith(f"{FOLDER.config_file}: ")


def test_preferred_sizes_without_a_batch_dimension_are_refused() -> None:
    with pytest.raises(RepositoryError, match="max_batch_size"):
        batching("dynamic_batching { preferred_batch_size: 1 }")


AUTO, CPU = Placement("auto"), Placement("cpu")


@pytest.mark.parametrize(
    ("text", "placements"),
    [
        pytest.param("", [AUTO], id="nothing said"),
        pytest.param("instance_group { }", [AUTO], id="an empty group"),
        pytest.param("instance_group { count: 3 }", [AUTO] * 3, id="any device"),
        pytest.param("instance_group { count: 2 kind: KIND_CPU }", [CPU] * 2, id="CPU"),
        pytest.param("instance_group { kind: KIND_GPU }", [Placement("gpu")], id="the GPU of --device-id"),
        pytest.param(
            "instance_group { kind: KIND_GPU gpus: [ 1, 3 ] count: 2 }",
            [Placement("gpu", 1)] * 2 + [Placement("gpu", 3)] * 2,
            id="so many on each GPU",
        ),
        pytest.param(
            "instance_group { gpus: [ 0, 1 ] }", [Placement("gpu", 0), Placement("gpu", 1)], id="GPUs without a kind"
        ),
        pytest.param(
            "instance_group { kind: KIND_CPU } instance_group { kind: KIND_GPU gpus: 2 }",
            [CPU, Placement("gpu", 2)],
            id="two groups",
        ),
        pytest.param("instance_group { count: 128 kind: KIND_CPU }", [CPU] * 128, id="as many as may be"),
    ],
)
def test_instances_are_placed_where_their_groups_say(text: str, placements: list[Placement]) -> None:
    assert instances(text) == tuple(placements)


def test_a_model_without_config_has_one_instance_anywhere() -> None:
    assert read_instances(FOLDER, None) == (AUTO,)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("instance_group { count: -1 }", "count is -1; expected 1 or more", id="fewer than none"),
        pytest.param("instance_group { count: 129 }", "count is 129", id="more than may be"),
        pytest.param(
            "instance_group { count: 100 } instance_group { count: 29 }",
            "makes 129 or more instances; expected at most 128",
            id="more than may be in two groups",
        ),
        pytest.param("instance_group { kind: KIND_MODEL }", "KIND_MODEL is not served; expected KIND_CPU", id="model"),
        pytest.param("instance_group { kind: KIND_CPU gpus: 0 }", r"KIND_CPU and names GPUs \[0\]", id="GPUs on a CPU"),
    ],
)
def test_instances_that_cannot_be_made_are_refused_with_the_file(text: str, said: str) -> None:
    with pytest.raises(RepositoryError, match=said) as caught:
        instances(text)
    assert str(caught.value).startswith(f"{FOLDER.config_file}: ")
