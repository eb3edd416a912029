"""What a ModelInfer request's head asks for, checked once and remembered.

A head is everything but the request's id and its tensor's bytes. Clients send the same one again and again, so it is
checked against the model the first time, and found by what protobuf writes of it from then on.
"""

from collections.abc import Mapping, Sequence
from itertools import count
from typing import NamedTuple, cast

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

# Field numbers and types on the wire: number << 3 | 2. The id has the same number in requests and answers.
_ID = pb.ModelInferRequest.ID_FIELD_NUMBER << 3 | 2
_RAW_INPUT = pb.ModelInferRequest.RAW_INPUT_CONTENTS_FIELD_NUMBER << 3 | 2
_RAW_OUTPUT = pb.ModelInferResponse.RAW_OUTPUT_CONTENTS_FIELD_NUMBER << 3 | 2

# Most shapes of outputs that one plan remembers; a model's outputs may have another shape for every request.
_MAX_SHAPES = 64
_MAX_HEAD_BYTES = 4096

_Prefixes = Sequence[tuple[bytes, int]]
"""For each output of some shape, what precedes its bytes in an answer, and how many a row has."""

_Tensor = tuple[bytes, bytes, int]
"""What precedes an output's bytes in an answer, the whole batch's bytes, and how many a row has."""

Key = tuple[bytes, int]
"""What a plan is found by: the head as protobuf writes it, and the size of the only raw tensor in bytes."""

RequestedOutput = tuple[TensorSpec, int, Place | None]
"""An output to send; how many best classes to send in place of its numbers (0: the numbers); and where in shared memory
to put it (None: into the answer)."""


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
        return cast("Sequence[_Tensor]", encoded[1])

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


class _Form(NamedTuple):
    """A plan, and how clients write its requests: by protobuf, but for the id and the tensor's bytes."""

    before: bytes
    """The model's name and version, which precede the id."""
    after: bytes
    """The other fields, which follow it, and the tag and the length of the tensor."""
    data_bytes: int
    """Size of the tensor."""
    plan: Plan


class PlanCache:
    """Plans by their heads, bounded. Not shared between threads without the interpreter's lock."""

    def __init__(self, max_plans: int = 512, max_head_bytes: int = _MAX_HEAD_BYTES) -> None:
        """Starts empty.

        Args:
            max_plans: most plans that are kept; when there are more, all are forgotten and it starts anew.
            max_head_bytes: size of the largest head that is kept.
        """
        self._max_plans = max_plans
        self._max_head_bytes = max_head_bytes
        # With the generation that they are of, in one: a thread that still works on an older one must not mix them.
        self._known: tuple[int, dict[Key, _Form]] = (-1, {})
        # That of the last request, with its generation: most heads come again at once. Parsing each takes 2 µs more.
        self._last: tuple[int, _Form] | None = None

    def recall(self, message: bytes, generation: int) -> tuple[Plan, bytes, memoryview] | None:
        """Returns the plan of a message with the head that came last, its id's field, and its tensor's bytes.

        None if it has another head, or is written in another way, or the catalogue has changed since. What is found is
        what protobuf would parse: the message is put together of fields that protobuf wrote, an id and the tensor.
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
                # An empty id is none, and is not sent back.
                return None
            end += 2 + message[at + 1]
        data_at = end + len(after)
        if data_at + data_bytes != len(message) or not message.startswith(after, end):
            return None
        id_field = message[at:end]
        # Its length is a byte of the field too, and one that is not ASCII is only a part of the length.
        return (plan, id_field, memoryview(message)[data_at:]) if id_field.isascii() else None

    def key_of(self, message: bytes, request: InferRequest) -> Key | None:
        """Returns what a request's plan is found by; None if it is not kept.

        Args:
            message: the serialized request.
            request: the same, parsed and without its id.
        """
        raw = request.raw
        # A head of megabytes must not be written a second time only to be looked up.
        if len(raw) != 1 or len(message) - raw[0].nbytes > self._max_head_bytes:
            return None
        return request.head.SerializeToString(), raw[0].nbytes

    def get(self, key: Key, generation: int) -> Plan | None:
        """Returns the plan for a key, unless it is not known or the catalogue has changed since."""
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
        """Remembers a plan that was made when the catalogue was of a generation."""
        known_generation, plans = self._known
        head, data_bytes = key
        if generation != known_generation or len(head) > self._max_head_bytes:
            return
        if len(plans) >= self._max_plans:
            plans.clear()
        plans[key] = _Form(*_around_id(head, data_bytes), data_bytes, plan)


def _around_id(head: bytes, data_bytes: int) -> tuple[bytes, bytes]:
    """Returns what precedes and what follows the id in a message of this head and a tensor of so many bytes."""
    request = pb.ModelInferRequest.FromString(head)
    before = pb.ModelInferRequest(model_name=request.model_name, model_version=request.model_version)
    request.ClearField("model_name")
    request.ClearField("model_version")
    tensor = bytes([_RAW_INPUT]) + encode_varint(data_bytes)
    return before.SerializeToString(), request.SerializeToString() + tensor


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
