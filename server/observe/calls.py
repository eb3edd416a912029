"""What is known of a call once it is answered, for the access log and for traces."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from ..engine.request import ComputedBatch

# https://www.w3.org/TR/trace-context/: version, trace id, the caller's span, flags; a later version may add more.
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})(-.*)?")
_SAMPLED = 1


class TraceParent(NamedTuple):
    """The trace that a caller's request belongs to, as its W3C headers say."""

    trace_id: str
    """32 hexadecimal digits."""
    is_sampled: bool
    """Whether the caller keeps its part of the trace."""
    headers: dict[str, str]
    """traceparent and, where it came, tracestate."""


def trace_parent(metadata: Iterable[tuple[str, str | bytes]]) -> TraceParent | None:
    """Returns the trace that is named in a call's metadata; None: there is none, or none of the standard's form."""
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
    """How it came: grpc, stream or http."""
    code: str
    """The status code's name."""
    code_number: int
    """The status code's number."""
    reason: str
    """Why it failed, such as queue_full; empty: it did not."""
    message: str
    """What the caller was told then."""
    model: str
    """The model's name; empty: it is about none, or none was found."""
    version: str
    """The version that computed, or was asked for."""
    request_id: str
    """The id that the caller gave."""
    started_ns: int
    """When it came."""
    ended_ns: int
    """When it was answered."""
    queued_ns: int
    """When its tensors were ready to wait for a run; 0 where it was not computed."""
    batch: ComputedBatch | None
    """The run that computed it."""
    parent: TraceParent | None
    """The trace that it belongs to."""
    token: str = ""
    """The name of the token that it came with; empty: it needed none, or had none that is known."""
