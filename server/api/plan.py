"""What a ModelInfer request's head asks for, checked once and remembered.

A head is everything but the request's id and its tensor's bytes. Clients send the same one again and again, so it is
parsed and checked against the model the first time, and found by its bytes from then on.
"""

from collections.abc import Mapping, Sequence
from itertools import count
from typing import NamedTuple

from pixelserve.oip import inference_pb2 as pb

from ..engine.postprocess import top_classes
from ..engine.regions import Regions
from ..engine.request import ComputedBatch, Layout
from ..engine.tensors import Array, TensorSpec
from ..errors import InvalidRequest
from ..repository.catalogue import Catalogue
from ..repository.loader import LoadedVersion
from .codec import InferRequest, decode_inputs, describe_output, encode_bytes, encode_output
from .shared_memory import Place, place_of
from .wire import encode_varint

_CLASSIFICATION = "classification"
_TIMEOUT = "timeout"
_PRIORITY = "priority"
# Ours: asks for what its run took and was, beside the answer.
_TIMINGS = "pixelserve_timings"
# Ours: names the version by what it is, such as its model's candidate.
_ALIAS = "pixelserve_alias"
# Asks for an empty answer behind the last of several; here every request has one, which is marked as the last.
_EMPTY_FINAL = "triton_enable_empty_final_response"

# Field numbers and types on the wire (public protocol, ModelInferRequest and ModelInferResponse): number << 3 | 2.
_ID, _RAW_INPUT, _RAW_OUTPUT = 3 << 3 | 2, 7 << 3 | 2, 6 << 3 | 2
_LENGTH_DELIMITED = 2

# Most shapes of outputs that one plan remembers; a model's outputs may have another shape for every request.
_MAX_SHAPES = 64
_MAX_HEAD_BYTES = 4096

_Prefixes = Sequence[tuple[bytes, int]]
"""For each output of some shape, what precedes its bytes in an answer, and how many a row has."""

_Tensor = tuple[bytes, bytes, int]
"""What precedes an output's bytes in an answer, the whole batch's bytes, and how many a row has."""

RequestedOutput = tuple[TensorSpec, int, Place | None]
"""An output to send; how many best classes to send in place of its numbers (0: the numbers); and where in shared memory
to put it (None: into the answer)."""


class Parts(NamedTuple):
    """A serialized ModelInferRequest whose only raw tensor is at its end."""

    before: bytes
    """The fields before the id, or before where it would be."""
    after: bytes
    """The fields behind the id, with the tag and the length of the tensor."""
    id_field: bytes
    """The id's field as it was sent, tag included; empty: there is none."""
    data_at: int
    """Where the tensor's bytes begin."""


def dissect(message: bytes) -> Parts | None:
    """Finds the parts of a serialized ModelInferRequest as clients write it; None for one of any other form, right or
    wrong."""
    size = len(message)
    at = id_at = id_end = 0
    try:
        # A longer head is not remembered, so it is not looked at.
        while at < size and at - (id_end - id_at) <= _MAX_HEAD_BYTES:
            tag = message[at]
            length = message[at + 1]
            body = at + 2
            if length > 0x7F:
                # Seven bits a byte, the lowest first; three bytes reach 2 MiB; beyond, parsing is cheap. What has more
                # bytes than it needs is not as protobuf writes it, and must not be sent back as an id.
                length = length & 0x7F | message[body] << 7
                body += 1
                if length > 0x3FFF:
                    length = length & 0x3FFF | message[body] << 14
                    body += 1
                    if not 0x3FFF < length <= 0x1FFFFF:
                        return None
                elif length <= 0x7F:
                    return None
            if tag == _RAW_INPUT:
                if body + length != size:
                    return None
                return Parts(message[:id_at], message[id_end:body], message[id_at:id_end], body)
            if tag & 7 != _LENGTH_DELIMITED or tag > 0x7F:
                return None
            if tag == _ID:
                if id_end != id_at or not length or not message[body : body + length].isascii():
                    return None
                id_at, id_end = at, body + length
            elif tag < _ID and id_end == id_at:
                # The name and the version go before the id.
                id_at = id_end = body + length
            at = body + length
    except IndexError:
        return None
    return None


class Plan:
    """A checked head: which model computes, from what, and what is answered."""

    def __init__(self, request: InferRequest, loaded: LoadedVersion, regions: Regions) -> None:
        """Checks everything about a request but its tensors.

        Args:
            request: the request.
            loaded: the version that it is for.
            regions: shared memory that outputs may go to.

        Raises:
            InvalidRequest: a parameter or a requested output is wrong.
            NotFound: an output is to go to shared memory that is not registered.
        """
        head = request.head
        _check_parameters(head.parameters, loaded.name)
        self.loaded = loaded
        self.batcher = loaded.batcher
        self.timeout_ns = _timeout_ns(head.parameters)
        self.priority = _priority(head.parameters)
        self.wants_timings = _wants_timings(head.parameters)
        self.waits_specially = bool(self.timeout_ns or self.priority)
        self._outputs = _requested_outputs(head, loaded, regions)
        # Regions come and go without a change of the head or of the catalogue.
        self._keeps_regions = any(place for _, _, place in self._outputs)
        # Classes and strings have no rows of equal length; what goes to shared memory is not in the answer.
        self._is_plain = bool(loaded.config.batching.max_batch_size) and not any(
            classes or place or spec.datatype.is_bytes for spec, classes, place in self._outputs
        )
        response = pb.ModelInferResponse(model_name=loaded.name, model_version=str(loaded.version))
        self._start: bytes = response.SerializeToString()
        # By the outputs' shapes, of which a model may have several.
        self._heads: dict[object, _Prefixes] = {}
        self.rows = 0
        # Of no tensors, until `decode` has seen them.
        self.layout = Layout((), (), ())

    def decode(self, request: InferRequest) -> dict[str, Array]:
        """Checks a request's tensors and returns them by name; from then on the plan holds for others like it.

        Raises:
            InvalidRequest: an input is missing, unknown, duplicate, or of a wrong datatype, shape or size.
        """
        inputs, self.rows = decode_inputs(request, self.loaded.config)
        self.layout = Layout.of(inputs)
        return inputs

    @property
    def is_reusable(self) -> bool:
        """Whether a request with the same head needs no more than its bytes."""
        layout = self.layout
        batches = self.loaded.config.batching.max_batch_size > 0
        return batches and len(layout.names) == 1 and layout.is_joinable and not self._keeps_regions

    def encode(self, id_field: bytes, batch: ComputedBatch, start: int, end: int) -> bytes:
        """Returns the serialized ModelInferResponse.

        Args:
            id_field: the request's id as a field of the message, tag included; it has the same number in both messages.
            batch: the outputs, of which the request's rows go from `start` to the one before `end`.
        """
        tensors = self._shared(batch)
        if tensors is None:
            return self._encode_any(id_field, batch.rows_of(start, end))
        parts = [self._start, id_field]
        for prefix, data, row_bytes in tensors:
            parts.append(prefix)
            parts.append(data[start * row_bytes : end * row_bytes])
        return b"".join(parts)

    def encode_run(self, id_fields: Sequence[bytes], batch: ComputedBatch, start: int) -> list[bytes] | None:
        """Returns what `encode` returns for each of several requests that were computed side by side.

        Args:
            id_fields: their ids as fields of the message.
            batch: the outputs.
            start: the first one's first row.

        Returns:
            The responses; None where one might fail, so that each is to be encoded by itself.
        """
        tensors = self._shared(batch)
        if tensors is None:
            return None
        rows, before = self.rows, self._start
        if len(tensors) > 1:
            places = enumerate(id_fields)
            return [self.encode(each, batch, start + at * rows, start + (at + 1) * rows) for at, each in places]
        prefix, data, row_bytes = tensors[0]
        size = rows * row_bytes
        offsets = count(start * row_bytes, size)
        return [
            b"".join((before, id_field, prefix, data[at : at + size]))
            for id_field, at in zip(id_fields, offsets, strict=False)
        ]

    def _shared(self, batch: ComputedBatch) -> "Sequence[_Tensor] | None":
        """Returns a batch's outputs as its answers of this plan begin and hold them; None where they share nothing."""
        encoded = batch.encoded
        if encoded is None or encoded[0] is not self:
            if not self._is_plain or not batch.is_by_row:
                return None
            encoded = batch.encoded = (self, self._tensors(batch))
        tensors: Sequence[_Tensor] = encoded[1]
        return tensors

    def _tensors(self, batch: ComputedBatch) -> "Sequence[_Tensor]":
        arrays = [batch.outputs[spec.name] for spec, _, _ in self._outputs]
        row_shapes = tuple([array.shape[1:] for array in arrays])
        known = self._heads.get(row_shapes)
        if known is None:
            if len(self._heads) >= _MAX_SHAPES:
                self._heads.clear()
            known = self._heads[row_shapes] = self._describe(arrays, batch.rows)
        return [(prefix, array.tobytes(), row_bytes) for array, (prefix, row_bytes) in zip(arrays, known, strict=True)]

    def _describe(self, arrays: Sequence[Array], batch_rows: int) -> "_Prefixes":
        response = pb.ModelInferResponse()
        prefixes: list[tuple[bytes, int]] = []
        for (spec, _, _), array in zip(self._outputs, arrays, strict=True):
            describe_output(response, spec, (self.rows, *array.shape[1:]))
            row_bytes = array.nbytes // batch_rows
            prefixes.append((bytes([_RAW_OUTPUT]) + encode_varint(row_bytes * self.rows), row_bytes))
        # The description of all of them stands before the first one's bytes.
        prefix, row_bytes = prefixes[0]
        prefixes[0] = response.SerializeToString() + prefix, row_bytes
        return prefixes

    def _encode_any(self, id_field: bytes, outputs: Mapping[str, Array]) -> bytes:
        response = pb.ModelInferResponse()
        for spec, class_count, place in self._outputs:
            array = outputs[spec.name]
            if class_count:
                batches = self.loaded.config.batching.max_batch_size > 0
                _encode_classes(response, spec, array, class_count, batches=batches)
            else:
                encode_output(response, spec, array)
            if place is not None:
                place.write(response, response.raw_output_contents.pop())
        return self._start + id_field + response.SerializeToString()


def _encode_classes(
    response: pb.ModelInferResponse, spec: TensorSpec, array: Array, class_count: int, *, batches: bool
) -> None:
    """Adds an output's best classes to a response."""
    rows = top_classes(array.reshape(len(array) if batches else 1, -1), class_count, spec.labels)
    shape = [len(rows), len(rows[0])] if batches else [len(rows[0])]
    response.outputs.add(name=spec.name, datatype="BYTES", shape=shape)
    response.raw_output_contents.append(encode_bytes([element for row in rows for element in row]))


class PlanCache:
    """Plans by their heads' bytes, bounded. Not shared between threads without the interpreter's lock."""

    def __init__(self, max_plans: int = 512, max_head_bytes: int = _MAX_HEAD_BYTES) -> None:
        """Starts out empty.

        Args:
            max_plans: most plans that are kept; when there are more, all are forgotten and it starts anew.
            max_head_bytes: size of the largest head that is kept.
        """
        self._max_plans = max_plans
        self._max_head_bytes = max_head_bytes
        # With the generation that they are of, in one: a thread that still works on an older one must not mix them.
        self._known: tuple[int, dict[bytes, Plan]] = (-1, {})
        # The head that came last, as what is before and behind the id, and its tensor's size: most come again at once.
        self._last: tuple[int, bytes, bytes, int, Plan] | None = None

    def recall(self, message: bytes, generation: int) -> tuple[Plan, bytes, int] | None:
        """Returns the plan for a message whose head is the one that came last, its id's field, and where its tensor
        begins; None: it is not, or the catalogue has changed since."""
        last = self._last
        if last is None or last[0] != generation:
            return None
        _, before, after, data_bytes, plan = last
        at = len(before)
        if not message.startswith(before) or len(message) < at + 2:
            return None
        end = at
        if message[at] == _ID:
            if not message[at + 1]:
                # An empty id is none, and is not sent back.
                return None
            end += 2 + message[at + 1]
        data_at = end + len(after)
        if data_at + data_bytes != len(message) or not message.startswith(after, end):
            return None
        id_field = message[at:end]
        # Its length is a byte of the field too, and one that is no ASCII is only a part of the length.
        return (plan, id_field, data_at) if id_field.isascii() else None

    def get(self, message: bytes, parts: Parts, generation: int) -> Plan | None:
        """Returns the plan for a message's head, unless it is not known or the catalogue has changed since."""
        known_generation, plans = self._known
        if generation != known_generation:
            self._known = (generation, {})
            self._last = None
            return None
        plan = plans.get(parts.before + parts.after)
        if plan is not None:
            self._last = (generation, parts.before, parts.after, len(message) - parts.data_at, plan)
        return plan

    def put(self, parts: Parts, plan: Plan, generation: int) -> None:
        """Remembers a plan that was made when the catalogue was of a generation."""
        head = parts.before + parts.after
        known_generation, plans = self._known
        if generation != known_generation or len(head) > self._max_head_bytes:
            return
        if len(plans) >= self._max_plans:
            plans.clear()
        plans[head] = plan


def find_version(head: pb.ModelInferRequest, catalogue: Catalogue) -> LoadedVersion:
    """Returns the version that answers a request.

    Raises:
        NotFound: no such model, version or alias, or no version of the model is ready.
        Unavailable: the version exists and is not ready.
        InvalidRequest: the version is not a positive integer, or the request names one in both ways.
    """
    if _ALIAS not in head.parameters:
        return catalogue.get(head.model_name, head.model_version)
    alias = head.parameters[_ALIAS].string_param
    if head.model_version:
        raise InvalidRequest(
            f'model_version is "{head.model_version}" and request parameter {_ALIAS} is "{alias}"; send one of them'
        )
    return catalogue.get_alias(head.model_name, alias)


def _check_parameters(parameters: Mapping[str, pb.InferParameter], model: str) -> None:
    # Triton reserves this prefix; silently dropping one would change what the caller asked for.
    unknown = [name for name in parameters if name.startswith("triton_") and name != _EMPTY_FINAL]
    if unknown:
        raise InvalidRequest(f"model {model}: request parameter {unknown[0]} is not served; leave it out")


def _timeout_ns(parameters: Mapping[str, pb.InferParameter]) -> int:
    """Returns how long the request may wait, by its parameter `timeout` in microseconds; 0: it does not say."""
    # A look-up in a protobuf map would add the key.
    if _TIMEOUT not in parameters:
        return 0
    timeout = parameters[_TIMEOUT]
    timeout_us = timeout.int64_param or timeout.uint64_param
    if timeout_us <= 0:
        raise InvalidRequest("request parameter timeout: expected a positive number of microseconds, as int64_param")
    return timeout_us * 1000


def _priority(parameters: Mapping[str, pb.InferParameter]) -> int:
    """Returns the request's priority level; 0: the model's default."""
    if _PRIORITY not in parameters:
        return 0
    priority = parameters[_PRIORITY]
    level = priority.uint64_param or priority.int64_param
    if level < 0:
        raise InvalidRequest(f"request parameter priority is {level}; expected 0 or more, as uint64_param")
    return level


def _wants_timings(parameters: Mapping[str, pb.InferParameter]) -> bool:
    if _TIMINGS not in parameters:
        return False
    choice = parameters[_TIMINGS].WhichOneof("parameter_choice")
    if choice != "bool_param":
        raise InvalidRequest(f"request parameter {_TIMINGS} came as {choice or 'nothing'}; expected bool_param")
    return parameters[_TIMINGS].bool_param


def _requested_outputs(head: pb.ModelInferRequest, loaded: LoadedVersion, regions: Regions) -> list[RequestedOutput]:
    """Returns what to answer with, in the order asked for; all outputs where the request names none."""
    specs = {spec.name: spec for spec in loaded.config.outputs}
    if not head.outputs:
        return [(spec, 0, None) for spec in specs.values()]
    outputs: list[RequestedOutput] = []
    for asked in head.outputs:
        spec = specs.get(asked.name)
        if spec is None:
            raise InvalidRequest(f'model {loaded.name} has no output "{asked.name}"; it has {", ".join(specs)}')
        place = place_of(asked.parameters, asked.name, regions)
        outputs.append((spec, _class_count(asked, spec, loaded), place))
    if len({spec.name for spec, _, _ in outputs}) != len(outputs):
        raise InvalidRequest(f"model {loaded.name}: an output is asked for twice; name each once")
    return outputs


def _class_count(
    asked: pb.ModelInferRequest.InferRequestedOutputTensor, spec: TensorSpec, loaded: LoadedVersion
) -> int:
    if _CLASSIFICATION not in asked.parameters:
        return 0
    count = asked.parameters[_CLASSIFICATION].int64_param
    if count < 1:
        raise InvalidRequest(f"output {spec.name}: classification is {count}; expected 1 or more, as int64_param")
    # Ones say nothing: [1, N, 1, 1] is a row of N scores.
    row = spec.shape[1:] if loaded.config.batching.max_batch_size else spec.shape
    if not row or sum(size != 1 for size in row) > 1 or not spec.datatype.has_numbers:
        raise InvalidRequest(
            f"output {spec.name} of model {loaded.name} is no row of class scores; ask for it without classification"
        )
    return count
