"""Caches the plans of ModelInfer requests by head.

Clients repeat the same head, so it is checked against the model the first time, and then found by its serialized bytes.
"""

from typing import NamedTuple

from pixelserve.oip import inference_pb2 as pb

from .codec import InferRequest
from .plan import Plan
from .wire import encode_varint

# Field numbers and types on the wire: number << 3 | 2. The id has the same number in requests and answers.
_ID = pb.ModelInferRequest.ID_FIELD_NUMBER << 3 | 2
_RAW_INPUT = pb.ModelInferRequest.RAW_INPUT_CONTENTS_FIELD_NUMBER << 3 | 2

_MAX_HEAD_BYTES = 4096

Key = tuple[bytes, int]
"""The key of a plan: the serialized head, and the size of the only raw tensor in bytes."""


class _Form(NamedTuple):
    """A plan with the serialized form of its requests, except the id and the tensor's bytes."""

    before: bytes
    """The fields before the id: the model's name and version."""
    after: bytes
    """The fields after the id, and the tag and length of the tensor."""
    data_bytes: int
    """Size of the tensor."""
    plan: Plan


class PlanCache:
    """A bounded cache of plans by head. Relies on the GIL for thread safety.

    Args:
        max_plans: maximum number of plans; beyond it the cache is cleared.
        max_head_bytes: maximum size of a cached head.
    """

    def __init__(self, max_plans: int = 512, max_head_bytes: int = _MAX_HEAD_BYTES) -> None:
        self._max_plans = max_plans
        self._max_head_bytes = max_head_bytes
        # Together with their generation: a thread that still uses an older one must not mix them.
        self._known: tuple[int, dict[Key, _Form]] = (-1, {})
        # The last request's, with its generation: most heads repeat at once. Parsing each would take 2 µs more.
        self._last: tuple[int, _Form] | None = None

    def recall(self, message: bytes, generation: int) -> tuple[Plan, bytes, memoryview] | None:
        """Returns the plan of a message with the same head as the last one, its id field, and its tensor's bytes.

        None if its head or serialization differs, or the catalogue has changed since. A match is what protobuf would
        parse: the message consists of fields that protobuf wrote, an id and the tensor.
        """
        last = self._last
        if last is None or last[0] != generation:
            return None
        before, after, data_bytes, plan = last[1]
        at = len(before)
        if not message.startswith(before) or len(message) < at + 2:
            return None
        end = at
        if message[at] == _ID:
            if not message[at + 1]:
                # An empty id is absent, and is not sent back.
                return None
            end += 2 + message[at + 1]
        data_at = end + len(after)
        if data_at + data_bytes != len(message) or not message.startswith(after, end):
            return None
        id_field = message[at:end]
        # The field includes one length byte; a byte that is not ASCII would be only part of a length.
        return (plan, id_field, memoryview(message)[data_at:]) if id_field.isascii() else None

    def key_of(self, message: bytes, request: InferRequest) -> Key | None:
        """Returns the key of a request's plan; None if it is not cached.

        Args:
            message: the serialized request.
            request: the parsed message without its id.
        """
        raw = request.raw
        # A head of megabytes must not be serialized again only for a look-up.
        if len(raw) != 1 or len(message) - raw[0].nbytes > self._max_head_bytes:
            return None
        return request.head.SerializeToString(), raw[0].nbytes

    def get(self, key: Key, generation: int) -> Plan | None:
        """Returns the plan for a key; None if it is unknown or the catalogue has changed since."""
        known_generation, plans = self._known
        if generation != known_generation:
            self._known = (generation, {})
            self._last = None
            return None
        form = plans.get(key)
        if form is None:
            return None
        self._last = (generation, form)
        return form.plan

    def put(self, key: Key, plan: Plan, generation: int) -> None:
        """Caches a plan of a generation of the catalogue."""
        known_generation, plans = self._known
        head, data_bytes = key
        if generation != known_generation or len(head) > self._max_head_bytes:
            return
        if len(plans) >= self._max_plans:
            plans.clear()
        plans[key] = _Form(*_around_id(head, data_bytes), data_bytes, plan)


def _around_id(head: bytes, data_bytes: int) -> tuple[bytes, bytes]:
    """Returns the bytes before and after the id in a message with this head and tensor size."""
    request = pb.ModelInferRequest.FromString(head)
    before = pb.ModelInferRequest(model_name=request.model_name, model_version=request.model_version)
    request.ClearField("model_name")
    request.ClearField("model_version")
    tensor = bytes([_RAW_INPUT]) + encode_varint(data_bytes)
    return before.SerializeToString(), request.SerializeToString() + tensor
