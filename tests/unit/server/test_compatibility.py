"""Every field of Triton's config.pbtxt has one verdict, and a model that sets it sees that verdict."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from google.protobuf import text_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from pixelserve.oip import model_config_pb2 as pb
from pixelserve_server.engine.curve import UNMEASURED
from pixelserve_server.errors import RepositoryError
from pixelserve_server.observe.models import ModelEvents
from pixelserve_server.repository.compatibility import IGNORED, REFUSED, RULES, Rule, ignored_fields, uses
from pixelserve_server.repository.config import read_config
from pixelserve_server.repository.layout import ModelFolder

IGNORED_RULES = [rule for rule in RULES if rule.verdict is IGNORED]
REFUSED_RULES = [rule for rule in RULES if rule.verdict is REFUSED]


def value_of(field: FieldDescriptor) -> Any:
    """Returns a value that is not the field's default."""
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return "x"
    return True if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL else 1


def set_field(message: Any, path: str) -> None:
    """Sets the field of a path to something."""
    name, _, rest = path.partition(".")
    field, value = message.DESCRIPTOR.fields_by_name[name], getattr(message, name)
    if field.message_type is None and not hasattr(value, "append"):
        setattr(message, name, value_of(field))
    elif field.message_type is None:
        value.append(value_of(field))
    elif field.message_type.GetOptions().map_entry:
        if field.message_type.fields_by_name["value"].message_type is None:
            value["x"] = "y"
        else:
            value["x"].SetInParent()
    else:
        inside = value if isinstance(value, Message) else value.add()
        inside.SetInParent()
        if rest:
            set_field(inside, rest)


def text_that_sets(path: str) -> str:
    """Returns a config.pbtxt that sets one field, on the third line or below."""
    config = pb.ModelConfig()
    set_field(config, path)
    return f"# As written by hand\n# for Triton.\n{text_format.MessageToString(config)}"


@pytest.fixture
def folder(tmp_path: Path) -> ModelFolder:
    """An empty model folder named x, the model name in these tests."""
    (tmp_path / "x").mkdir()
    return ModelFolder(tmp_path / "x")


@pytest.mark.parametrize("rule", REFUSED_RULES, ids=lambda rule: rule.field)
def test_a_refused_field_is_refused_with_its_line_and_the_reason(folder: ModelFolder, rule: Rule) -> None:
    folder.config_file.write_text(text_that_sets(rule.field))
    with pytest.raises(RepositoryError) as caught:
        read_config(folder)
    error = caught.value
    line = folder.config_file.read_text().splitlines()[(error.line or 0) - 1]
    assert error.path == folder.config_file
    assert line.strip().startswith(rule.field.rpartition(".")[2])
    assert error.problem == f"{rule.field} is not served: {rule.reason}"


@pytest.mark.parametrize("rule", IGNORED_RULES, ids=lambda rule: rule.field)
def test_an_ignored_field_is_read_and_named(folder: ModelFolder, rule: Rule) -> None:
    folder.config_file.write_text(text_that_sets(rule.field))
    (use,) = ignored_fields(read_config(folder))
    # A parameter is named with its key.
    assert use.name == rule.field + (".x" if rule.field == "parameters" else "")


def test_a_field_that_says_its_default_is_not_told_of(folder: ModelFolder) -> None:
    folder.config_file.write_text(
        "optimization { } model_transaction_policy { decoupled: false } response_cache { enable: false } "
        "instance_group { passive: false } input { optional: false format: FORMAT_NONE }"
    )
    assert not list(uses(read_config(folder) or pb.ModelConfig()))


def test_our_own_parameter_is_served_beside_others_that_are_not(folder: ModelFolder) -> None:
    folder.config_file.write_text(
        'parameters { key: "inversion" value { string_value: "auto" } }\n'
        'parameters { key: "memory.arena" value { string_value: "1" } }'
    )
    assert [use.name for use in ignored_fields(read_config(folder))] == ["parameters.memory.arena"]


def test_a_field_that_is_there_twice_is_named_once(folder: ModelFolder) -> None:
    folder.config_file.write_text(
        "instance_group { secondary_devices { } } instance_group { secondary_devices { } } metric_tags { }"
    )
    assert [use.name for use in ignored_fields(read_config(folder))] == [
        "instance_group.secondary_devices",
        "metric_tags",
    ]


def test_without_a_configuration_nothing_is_ignored() -> None:
    assert ignored_fields(None) == []


class Recorder:
    """A log, metrics and health that keep the warnings."""

    def __init__(self) -> None:
        self.warnings: list[tuple[str, dict[str, Any]]] = []

    def warning(self, event: str, **fields: Any) -> None:
        self.warnings.append((event, fields))

    def __getattr__(self, _: str) -> Any:
        return lambda *_, **__: None


def loaded(text: str, version: int = 1) -> Any:
    """Returns the log events of loading a version with this config.pbtxt."""
    return SimpleNamespace(
        name="digits",
        version=version,
        provider="CPUExecutionProvider",
        precision="float32",
        evidence=SimpleNamespace(verified=True, summary="verified"),
        in_use=SimpleNamespace(
            engine="onnxruntime", precision="float32", device_id=None, threads=1, graphs=0, notes=()
        ),
        config=SimpleNamespace(
            written=text_format.Parse(text, pb.ModelConfig()),
            batching=SimpleNamespace(buckets=(), queue=SimpleNamespace(max_queue_size=8)),
            outputs=(),
        ),
        curve=UNMEASURED,
        batch_limit=8,
        scores=None,
        row_state="independent",
        unmerged="",
        load_s=0.1,
        batcher=SimpleNamespace(waiting=0, target_state=None),
    )


def test_the_log_names_what_is_ignored_once_a_model_and_again_when_that_changes() -> None:
    log = Recorder()
    events = ModelEvents(Recorder(), Recorder(), log, lambda name: True, drift_window=0)  # type: ignore[arg-type]
    both = 'metric_tags { key: "a" value: "b" } optimization { graph { level: 1 } }'
    for version in (1, 2):
        events.on_loaded(loaded(both, version))
    said = "config.pbtxt: not served, ignored: metric_tags, optimization.graph"
    assert log.warnings == [("not as asked", {"model": "digits", "reason": said})]
    events.on_loaded(loaded('metric_tags { key: "a" value: "b" }'))
    events.on_loaded(loaded("max_batch_size: 8"))
    assert [fields["reason"] for _, fields in log.warnings[1:]] == ["config.pbtxt: not served, ignored: metric_tags"]
