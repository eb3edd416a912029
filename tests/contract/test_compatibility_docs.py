"""docs/compatibility.md lists every method and every field of the protocol; every field of config.pbtxt has a rule."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from pixelserve.oip import inference_pb2 as pb
from pixelserve.oip import model_config_pb2 as config_pb
from pixelserve_server.api.dispatch import CallGuard
from pixelserve_server.api.log_settings import LogSettings
from pixelserve_server.api.open_inference import OpenInference
from pixelserve_server.api.repository import RepositoryControl
from pixelserve_server.api.repository_index import RepositoryIndex
from pixelserve_server.api.stream import INFER_STREAM
from pixelserve_server.api.trace_settings import TraceSettings
from pixelserve_server.engine.regions import Regions
from pixelserve_server.errors import RequestError, Unimplemented
from pixelserve_server.observe.logs import LogLevel
from pixelserve_server.observe.statistics import VersionStats
from pixelserve_server.repository.catalogue import Catalogue
from pixelserve_server.repository.compatibility import RULES, Verdict

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "compatibility.md"
SERVICE = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"]


@dataclass(frozen=True)
class Row:
    """One line of the table of methods."""

    name: str
    verdict: str
    reason: str


def section(heading: str) -> str:
    """Returns what stands below a heading."""
    (text,) = [part for part in re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE) if part.startswith(heading)]
    return text


def methods() -> list[Row]:
    """Returns the table of methods."""
    text = section("Methods")
    found = [Row(*cells) for cells in re.findall(r"^\| `([\w.]+)` \| (\w+) \| (.+) \|$", text, re.MULTILINE)]
    assert len(found) == len(re.findall(r"^\| `", text, re.MULTILINE)), "a line is not a row of three cells"
    return found


def listed_fields() -> list[str]:
    """Returns every field in the table of messages, under its message's name."""
    rows = re.findall(r"^\| `([\w.]+)` \|(.*)\|(.*)\|(.*)\|$", section("Fields"), re.MULTILINE)
    return [f"{message}.{field}" for message, *cells in rows for field in re.findall(r"`(\w+)`", " ".join(cells))]


METHODS = methods()


def message_of(field: FieldDescriptor) -> Descriptor | None:
    """Returns the message that a field holds, or a map's values are; None: it holds none."""
    message = field.message_type
    if message is not None and message.GetOptions().map_entry:
        message = message.fields_by_name["value"].message_type
    return message


def covered(message: Descriptor, path: str, known: set[str]) -> Iterator[str]:
    """Yields the name under which each field is known: its own, or else those of the fields in it."""
    for field in message.fields:
        name, inside = f"{path}{field.name}", message_of(field)
        if name in known or inside is None or not any(each.startswith(f"{name}.") for each in known):
            yield name
        else:
            yield from covered(inside, f"{name}.", known)


def test_every_field_of_config_pbtxt_has_exactly_one_rule() -> None:
    known = [rule.field for rule in RULES]
    assert len(set(known)) == len(known)
    assert list(covered(config_pb.ModelConfig.DESCRIPTOR, "", set(known))) == known


def protocol_fields() -> set[str]:
    """Returns every field of every message that the service's methods send or take, but those of config.pbtxt."""
    found: set[str] = set()
    messages = [each for method in SERVICE.methods for each in (method.input_type, method.output_type)]
    while messages:
        message = messages.pop()
        for field in message.fields:
            name = f"{message.full_name.removeprefix('inference.')}.{field.name}"
            inside = message_of(field)
            if name not in found and inside is not None and inside.file is pb.DESCRIPTOR:
                messages.append(inside)
            found.add(name)
    return found


def test_every_field_of_the_protocol_is_listed_once() -> None:
    assert sorted(listed_fields()) == sorted(protocol_fields())


def test_every_method_has_exactly_one_row() -> None:
    assert [row.name for row in METHODS] == [method.name for method in SERVICE.methods]


@pytest.mark.parametrize("row", METHODS, ids=lambda row: row.name)
def test_every_verdict_is_one_of_three(row: Row) -> None:
    assert row.verdict in list(Verdict)


def test_the_methods_that_are_refused_are_those_that_a_server_with_everything_on_does_not_serve() -> None:
    catalogue = Catalogue()
    index = RepositoryIndex(catalogue, set, CallGuard(str))
    control = RepositoryControl(SimpleNamespace(), "explicit", str)  # type: ignore[arg-type]
    handlers = {
        **OpenInference(
            *(catalogue, SimpleNamespace(is_ready=True), "1.2.3", lambda model, version: VersionStats()),
            *(LogSettings(LogLevel("info"), "json"), TraceSettings(catalogue), Regions()),
            shared_memory=True,
        ).handlers(),
        f"/{SERVICE.full_name}/RepositoryIndex": index,
        **control.handlers(),
    }
    refused = []
    for method in SERVICE.methods:
        name = f"/{SERVICE.full_name}/{method.name}"
        if name == INFER_STREAM:
            continue
        try:
            handlers[name](
                b"", SimpleNamespace(deadline_s=None, reply=lambda answer: None, reserve=lambda size_bytes: None)
            )
        except (KeyError, Unimplemented):
            refused.append(method.name)
        except RequestError:
            # An empty request is wrong, and not for want of a handler.
            pass
    assert [row.name for row in METHODS if row.verdict == "refused"] == refused
    assert [row.name for row in METHODS if row.reason.startswith("UNIMPLEMENTED")] == refused
    assert refused
