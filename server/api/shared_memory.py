"""Tensors in shared memory: methods that register regions, and parameters that refer to them."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from google.protobuf.message import Message

from pixelserve.oip import inference_pb2 as pb

from ..engine.regions import Region, Regions
from ..errors import InvalidRequest, NotFound, Unimplemented
from .call import Call
from .codec import InferRequest

REGION, _BYTE_SIZE, _OFFSET = "shared_memory_region", "shared_memory_byte_size", "shared_memory_offset"
"""The parameters for a tensor's region and its place in it."""

Parameters = Mapping[str, pb.InferParameter]
Methods = dict[str, tuple[type[Any], Callable[[Any], Message]]]
"""Request type and handler by method."""


class Place(NamedTuple):
    """The place of a tensor's bytes."""

    region: Region
    """The region."""
    offset: int
    """Start in the region, in bytes."""
    byte_size: int
    """Size in bytes, or the maximum."""

    def write(self, response: pb.ModelInferResponse, data: bytes) -> None:
        """Writes an output's bytes, and marks it in the response, whose last output it is.

        Raises:
            InvalidRequest: they do not fit, or the memory is gone.
        """
        output = response.outputs[-1]
        if len(data) > self.byte_size:
            raise InvalidRequest(
                f"output {output.name} has {len(data)} bytes; {self.byte_size} are set aside for it in shared memory "
                f"region {self.region.name}"
            )
        self.region.write(self.offset, data)
        output.parameters[REGION].string_param = self.region.name
        output.parameters[_BYTE_SIZE].int64_param = len(data)
        if self.offset:
            output.parameters[_OFFSET].int64_param = self.offset
        # Clients find an output's bytes by position.
        response.raw_output_contents.append(b"")


def place_of(parameters: Parameters, tensor: str, regions: Regions) -> Place | None:
    """Returns the place from a tensor's parameters, or None.

    Raises:
        InvalidRequest: the bytes are not inside the region.
        NotFound: there is no such region.
    """
    # Indexing a protobuf map would add the key.
    if REGION not in parameters:
        return None
    byte_size = _number(parameters, _BYTE_SIZE, tensor)
    offset = _number(parameters, _OFFSET, tensor) if _OFFSET in parameters else 0
    place = Place(regions.get(parameters[REGION].string_param), offset, byte_size)
    place.region.check(offset, byte_size)
    return place


def _number(parameters: Parameters, name: str, tensor: str) -> int:
    value = parameters[name] if name in parameters else pb.InferParameter()
    if value.WhichOneof("parameter_choice") not in ("int64_param", "uint64_param"):
        raise InvalidRequest(f"tensor {tensor} is in shared memory; expected {name} in bytes, as int64_param")
    return value.int64_param or value.uint64_param


def fetch_inputs(request: InferRequest, regions: Regions, call: Call) -> InferRequest:
    """Returns a request with all inputs in it; copies those in shared memory.

    Args:
        request: the request.
        regions: the registered regions.
        call: counts the bytes as if they were in the message.

    Raises:
        InvalidRequest: the bytes are not inside the region or exceed the server's limit of bytes in flight, or the
            request also has typed contents.
        NotFound: there is no such region.
        QueueFull: too many bytes are unanswered.
    """
    tensors = request.head.inputs
    places = [place_of(tensor.parameters, tensor.name, regions) for tensor in tensors]
    if not any(places):
        return request
    sent = len(places) - sum(place is not None for place in places)
    if len(request.raw) != sent or any(tensor.HasField("contents") for tensor in tensors):
        raise InvalidRequest(
            f"{len(places) - sent} of {len(places)} inputs are in shared memory and {len(request.raw)} buffers in "
            f"raw_input_contents; expected one for each of the others, and no typed contents"
        )
    _reserve(sum(place.byte_size for place in places if place is not None), call, regions.max_read_bytes)
    raw = iter(request.raw)
    return InferRequest(request.head, [next(raw) if place is None else _read(place) for place in places])


def _reserve(byte_size: int, call: Call, most_bytes: int) -> None:
    # Registering a region is free, so reads need their own limit, like messages.
    if byte_size > most_bytes:
        raise InvalidRequest(
            f"the inputs have {byte_size:,} bytes in shared memory; at most {most_bytes:,} are read for one "
            f"request (--max-inflight-mib): send fewer rows"
        )
    call.reserve(byte_size)


def _read(place: Place) -> memoryview:
    return memoryview(place.region.read(place.offset, place.byte_size))


class SystemSharedMemory:
    """Answers the methods that register regions. Thread-safe.

    Args:
        regions: the registered regions.
        enabled: whether clients may register any.
    """

    def __init__(self, regions: Regions, *, enabled: bool) -> None:
        self._regions = regions
        self._enabled = enabled

    def methods(self) -> Methods:
        """Returns the methods, including those of CUDA shared memory, which cannot be registered."""
        return {
            "SystemSharedMemoryStatus": (pb.SystemSharedMemoryStatusRequest, self._status),
            "SystemSharedMemoryRegister": (pb.SystemSharedMemoryRegisterRequest, self._register),
            "SystemSharedMemoryUnregister": (pb.SystemSharedMemoryUnregisterRequest, self._unregister),
            "CudaSharedMemoryStatus": (pb.CudaSharedMemoryStatusRequest, _cuda_status),
            "CudaSharedMemoryRegister": (pb.CudaSharedMemoryRegisterRequest, _refuse_cuda),
            "CudaSharedMemoryUnregister": (pb.CudaSharedMemoryUnregisterRequest, _unregister_cuda),
        }

    def _status(self, request: pb.SystemSharedMemoryStatusRequest) -> Message:
        self._require_enabled()
        regions = [self._regions.get(request.name)] if request.name else self._regions.listing()
        response = pb.SystemSharedMemoryStatusResponse()
        for region in regions:
            status = response.regions[region.name]
            status.name, status.key = region.name, region.key
            status.offset, status.byte_size = region.offset, region.byte_size
        return response

    def _register(self, request: pb.SystemSharedMemoryRegisterRequest) -> Message:
        self._require_enabled()
        self._regions.register(request.name, request.key, request.offset, request.byte_size)
        return pb.SystemSharedMemoryRegisterResponse()

    def _unregister(self, request: pb.SystemSharedMemoryUnregisterRequest) -> Message:
        self._require_enabled()
        self._regions.unregister(request.name)
        return pb.SystemSharedMemoryUnregisterResponse()

    def _require_enabled(self) -> None:
        if not self._enabled:
            raise Unimplemented(
                "shared memory is off; start the server with --system-shared-memory, or send tensors in the request"
            )


def _cuda_status(request: pb.CudaSharedMemoryStatusRequest) -> Message:
    # Triton's example clients ask first, even if they do not use any.
    if request.name:
        raise NotFound(f'there is no CUDA shared memory region "{request.name}"; none can be registered')
    return pb.CudaSharedMemoryStatusResponse()


def _unregister_cuda(_: pb.CudaSharedMemoryUnregisterRequest) -> Message:
    return pb.CudaSharedMemoryUnregisterResponse()


def _refuse_cuda(_: Message) -> Message:
    raise Unimplemented("CUDA shared memory is not served; use system shared memory, or send tensors in the request")
