"""Checks the head of a ModelInfer request: everything except its id and tensor bytes. `plan_cache` keeps the result."""

from collections.abc import Mapping, Sequence
from itertools import count
from typing import cast

from pixelserve.oip import inference_pb2 as pb

from ..engine.postprocess import top_classes
from ..engine.regions import Regions
from ..engine.request import ComputedBatch, Layout
from ..engine.tensors import Array, TensorSpec
from ..errors import InvalidRequest
from ..repository.catalogue import Catalogue
from ..repository.loaded import LoadedVersion
from .codec import InferRequest, decode_inputs, describe_output, encode_bytes, encode_output
from .shared_memory import Place, place_of
from .wire import encode_varint

_CLASSIFICATION = "classification"
_TIMEOUT = "timeout"
_PRIORITY = "priority"
# Our own parameter: requests the run's timings beside the answer.
_TIMINGS = "pixelserve_timings"
# Our own parameter: names the version by alias, such as candidate.
_ALIAS = "pixelserve_alias"
# Requests an empty last answer after several; here every request has one answer, marked as the last.
_EMPTY_FINAL = "triton_enable_empty_final_response"

# Field number and type on the wire: number << 3 | 2.
_RAW_OUTPUT = pb.ModelInferResponse.RAW_OUTPUT_CONTENTS_FIELD_NUMBER << 3 | 2

# Maximum output shapes cached per plan; a model's outputs may differ in shape for every request.
_MAX_SHAPES = 64

_Prefixes = Sequence[tuple[bytes, int]]
"""For each output of a shape: the bytes before its data in an answer, and the bytes per row."""

_Tensor = tuple[bytes, bytes, int]
"""The bytes before an output's data in an answer, the whole batch's data, and the bytes per row."""

RequestedOutput = tuple[TensorSpec, int, Place | None]
"""An output to send; how many best classes to send in place of its numbers (0: the numbers); and where in shared memory
to put it (None: into the answer)."""


class Plan:
    """A checked head: the model, its inputs and the requested outputs."""

    def __init__(self, request: InferRequest, loaded: LoadedVersion, regions: Regions) -> None:
        """Checks everything in a request except its tensors.

        Args:
            request: the request.
            loaded: its version.
            regions: shared memory for outputs.

        Raises:
            InvalidRequest: a parameter or a requested output is wrong.
            NotFound: an output's shared memory is not registered.
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
        # Regions change without a change of the head or the catalogue.
        self._keeps_regions = any(place for _, _, place in self._outputs)
        # Rows of classes and strings differ in length; outputs in shared memory are not in the answer.
        self._is_plain = bool(loaded.config.batching.max_batch_size) and not any(
            classes or place or spec.datatype.is_bytes for spec, classes, place in self._outputs
        )
        response = pb.ModelInferResponse(model_name=loaded.name, model_version=str(loaded.version))
        self._start: bytes = response.SerializeToString()
        # By the outputs' shapes, of which a model may have several.
        self._heads: dict[object, _Prefixes] = {}
        self.rows = 0
        # None until `decode` has seen the tensors.
        self.layout = Layout((), (), ())

    def decode(self, request: InferRequest) -> dict[str, Array]:
        """Checks a request's tensors and returns them by name; the plan then applies to similar requests.

        Raises:
            InvalidRequest: an input is missing, unknown, duplicate, or of a wrong datatype, shape or size.
        """
        inputs, self.rows = decode_inputs(request, self.loaded.config)
        self.layout = Layout.of(inputs)
        return inputs

    @property
    def is_reusable(self) -> bool:
        """Whether a request with the same head needs only its bytes."""
        layout = self.layout
        batches = self.loaded.config.batching.max_batch_size > 0
        return batches and len(layout.names) == 1 and layout.is_joinable and not self._keeps_regions

    def encode(self, id_field: bytes, batch: ComputedBatch, start: int, end: int) -> bytes:
        """Returns the serialized ModelInferResponse.

        Args:
            id_field: the request's id as a field with its tag, which is the same in both messages.
            batch: the outputs; the request has rows `start` to `end` (exclusive).
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
        """Encodes the responses of several requests with adjacent rows.

        Args:
            id_fields: their ids as fields of the message.
            batch: the outputs.
            start: the first request's first row.

        Returns:
            The responses; None if one might fail, so each must be encoded by itself.
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
        """Returns the parts of a batch's outputs that its answers share; None if there are none."""
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
        # The description of all outputs precedes the data of the first.
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


def find_version(head: pb.ModelInferRequest, catalogue: Catalogue) -> LoadedVersion:
    """Returns the version of a request.

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
    # Triton reserves this prefix; silently ignoring such a parameter would change the request's meaning.
    unknown = [name for name in parameters if name.startswith("triton_") and name != _EMPTY_FINAL]
    if unknown:
        raise InvalidRequest(f"model {model}: request parameter {unknown[0]} is not served; leave it out")


def _timeout_ns(parameters: Mapping[str, pb.InferParameter]) -> int:
    """Returns the limit of a request's wait from its parameter `timeout` in microseconds; 0 if absent."""
    # Indexing a protobuf map would add the key.
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
    """Returns the requested outputs in order; all outputs if the request names none."""
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
        raise InvalidRequest(f"model {loaded.name}: an output is requested twice; name each once")
    return outputs


def _class_count(
    asked: pb.ModelInferRequest.InferRequestedOutputTensor, spec: TensorSpec, loaded: LoadedVersion
) -> int:
    if _CLASSIFICATION not in asked.parameters:
        return 0
    count = asked.parameters[_CLASSIFICATION].int64_param
    if count < 1:
        raise InvalidRequest(f"output {spec.name}: classification is {count}; expected 1 or more, as int64_param")
    # Ignore ones: [1, N, 1, 1] is a row of N scores.
    row = spec.shape[1:] if loaded.config.batching.max_batch_size else spec.shape
    if not row or sum(size != 1 for size in row) > 1 or not spec.datatype.has_numbers:
        raise InvalidRequest(
            f"output {spec.name} of model {loaded.name} is not a row of class scores; request it without classification"
        )
    return count
