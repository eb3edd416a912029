"""Describes answered calls, for the access log and traces."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from ..engine.request import ComputedBatch

# https://www.w3.org/TR/trace-context/: version, trace id, the caller's span, flags; a later version may add more.
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})(-.*)?")
_SAMPLED = 1


class TraceParent(NamedTuple):
    """The trace of a request, from its W3C headers."""

    trace_id: str
    """32 hexadecimal digits."""
    is_sampled: bool
    """Whether the caller samples the trace."""
    headers: dict[str, str]
    """traceparent and, if present, tracestate."""


def trace_parent(metadata: Iterable[tuple[str, str | bytes]]) -> TraceParent | None:
    """Returns the trace named in a call's metadata; None if it is missing or malformed."""
    headers = {key: value for key, value in metadata if key in ("traceparent", "tracestate") and isinstance(value, str)}
    found = _TRACEPARENT.fullmatch(headers.get("traceparent", ""))
    if found is None:
        return None
    return TraceParent(found[1], bool(int(found[2], 16) & _SAMPLED), headers)


@dataclass(frozen=True)
class AnsweredCall:
    """A call and its answer; times by `time.monotonic_ns()`."""

    method: str
    """Its method's full name."""
    via: str
    """Its transport: grpc, stream or http."""
    code: str
    """The status code's name."""
    code_number: int
    """The status code's number."""
    reason: str
    """Why it failed, such as queue_full; empty if it succeeded."""
    message: str
    """The error message sent to the caller."""
    model: str
    """The model's name; empty if it has none or the model was not found."""
    version: str
    """The version that computed it, or the requested one."""
    request_id: str
    """The caller's request id."""
    started_ns: int
    """When it came."""
    ended_ns: int
    """When it was answered."""
    queued_ns: int
    """When its tensors entered the queue; 0 if it was not computed."""
    batch: ComputedBatch | None
    """The run that computed it."""
    parent: TraceParent | None
    """Its trace."""
    rows: int = 0
    """Its rows (images); 0 if it was not computed."""
    token: str = ""
    """The name of its token; empty if none was needed or it was unknown."""
