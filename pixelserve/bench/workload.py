"""Prepares requests as bytes, so load generation spends no time on them."""

import itertools
import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from .errors import WorkloadError

if TYPE_CHECKING:
    from pixelserve.client import ModelVersion, Tensor
    from pixelserve.imaging.spec import PictureSpec

CLASSIFY = "/pixelserve.v1.Classifier/Classify"
INFER = "/inference.GRPCInferenceService/ModelInfer"

# Distinct bodies, so neither side works from its caches; few enough to fit into memory beside a server.
_MADE_UP_BODIES = 64
_MAX_BYTES = 256 * 1024 * 1024
Shapes = Mapping[str, tuple[int, ...]]

_DTYPES = {
    "BOOL": "?",
    **{f"INT{8 * size}": f"<i{size}" for size in (1, 2, 4, 8)},
    **{f"UINT{8 * size}": f"<u{size}" for size in (1, 2, 4, 8)},
    **{f"FP{8 * size}": f"<f{size}" for size in (2, 4, 8)},
}


@dataclass(frozen=True)
class Workload:
    """Requests that are sent in turn, repeatedly."""

    method: str
    """gRPC method as /service/method."""
    bodies: Sequence[bytes]
    """Serialized requests."""
    images: int
    """Images, or rows, in each request."""


def make(
    version: "ModelVersion",
    method: str,
    *,
    batch: int,
    files: Sequence[Path] = (),
    shapes: Shapes = MappingProxyType({}),
) -> Workload:
    """Makes the requests for a version of a model.

    Args:
        version: the server's description of it.
        method: CLASSIFY or INFER.
        batch: images in each request.
        files: pictures to send; empty: made-up values that fit the model's inputs.
        shapes: whole shapes by input, for free dimensions of the model; INFER only.

    Raises:
        WorkloadError: the model does not accept such requests; the message says what to do instead.
    """
    if method == CLASSIFY and not version.takes_images:
        raise WorkloadError(f"{version.name} takes no pictures; use --method infer")
    if batch > max(version.max_batch_size, 1):
        raise WorkloadError(
            f"{version.name} accepts at most {max(version.max_batch_size, 1)} images per request, not {batch}"
        )
    rng = np.random.default_rng(0)
    if method == CLASSIFY:
        bodies = _classify_files(version, batch, files) if files else _classify_made_up(version, batch, rng)
    else:
        if (files or version.picture) and not shapes:
            # The size that pictures are brought to, for a model that leaves it free.
            shapes = {version.inputs[0].name: (batch, *_spec(version).shape)}
        sizes = _request_shapes(version, batch, shapes)
        bodies = _infer_files(version, sizes, files) if files else _infer_made_up(version, sizes, rng)
    return Workload(method, _within_memory(bodies), batch)


def _within_memory(bodies: Iterator[bytes]) -> list[bytes]:
    kept: list[bytes] = []
    used = 0
    for body in bodies:
        used += len(body)
        if kept and used > _MAX_BYTES:
            break
        kept.append(body)
    return kept


def _groups(files: Sequence[Path], batch: int) -> Iterator[list[Path]]:
    """Yields full batches that cover every file; the last one is filled up from the beginning."""
    endless = itertools.cycle(files)
    for _ in range(-(-len(files) // batch)):
        yield list(itertools.islice(endless, batch))


def _classify_files(version: "ModelVersion", batch: int, files: Sequence[Path]) -> Iterator[bytes]:
    from pixelserve.v1 import classifier_pb2 as pb

    for group in _groups(files, batch):
        images = [pb.Image(encoded=path.read_bytes()) for path in group]
        yield pb.ClassifyRequest(model=version.name, version=version.version, images=images).SerializeToString()


def _classify_made_up(version: "ModelVersion", batch: int, rng: np.random.Generator) -> Iterator[bytes]:
    from pixelserve.v1 import classifier_pb2 as pb

    spec = _spec(version)
    height, width, channels = spec.height, spec.width, spec.channels
    for _ in range(_MADE_UP_BODIES):
        pixels = rng.integers(0, 256, (batch, height, width, channels), np.uint8)
        raws = [pb.RawPixels(height=height, width=width, channels=channels, data=one.tobytes()) for one in pixels]
        images = [pb.Image(raw=raw) for raw in raws]
        yield pb.ClassifyRequest(model=version.name, version=version.version, images=images).SerializeToString()


def _infer_files(version: "ModelVersion", shapes: Sequence[tuple[int, ...]], files: Sequence[Path]) -> Iterator[bytes]:
    from .pictures import prepared

    spec, batch = _spec(version), shapes[0][0]
    if shapes[0][1:] != spec.shape:
        raise WorkloadError(f"--shape {shapes[0][1:]}: {version.name} takes pictures of {spec.shape}; leave it out")
    for group in _groups(files, batch):
        pictures = np.stack([prepared(path, spec) for path in group])
        yield _infer_body(version, shapes, [pictures.tobytes()])


def _infer_made_up(
    version: "ModelVersion", shapes: Sequence[tuple[int, ...]], rng: np.random.Generator
) -> Iterator[bytes]:
    for _ in range(_MADE_UP_BODIES):
        values = [_made_up(tensor, shape, rng) for tensor, shape in zip(version.inputs, shapes, strict=True)]
        yield _infer_body(version, shapes, values)


def _infer_body(version: "ModelVersion", shapes: Sequence[tuple[int, ...]], values: Sequence[bytes]) -> bytes:
    from pixelserve.oip import inference_pb2 as pb

    request = pb.ModelInferRequest(model_name=version.name, model_version=version.version)
    for tensor, shape in zip(version.inputs, shapes, strict=True):
        request.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=shape)
    request.raw_input_contents.extend(values)
    return request.SerializeToString()


def _spec(version: "ModelVersion") -> "PictureSpec":
    """Returns the pictures that a model takes.

    Raises:
        WorkloadError: it takes none.
    """
    from .pictures import taken_by

    dtype = _DTYPES.get(version.inputs[0].datatype) if version.inputs else None
    spec = taken_by(version, np.dtype(dtype).name) if dtype else None
    if spec is None:
        raise WorkloadError(f"{version.name} takes no pictures; leave --images out, and rows are made up")
    return spec


def _request_shapes(version: "ModelVersion", batch: int, chosen: Shapes) -> list[tuple[int, ...]]:
    """Returns the shape of each input in a request.

    Raises:
        WorkloadError: a chosen shape does not fit, or a free dimension has none.
    """
    if unknown := next((name for name in chosen if name not in {tensor.name for tensor in version.inputs}), None):
        names = ", ".join(tensor.name for tensor in version.inputs)
        raise WorkloadError(f"--shape {unknown}: {version.name} has no such input; it has {names}")
    return [_request_shape(version, tensor, batch, chosen.get(tensor.name)) for tensor in version.inputs]


def _request_shape(
    version: "ModelVersion", tensor: "Tensor", batch: int, chosen: tuple[int, ...] | None
) -> tuple[int, ...]:
    expected = (batch, *tensor.shape[1:]) if version.max_batch_size else tensor.shape
    if chosen is None:
        if min(expected, default=0) < 0:
            example = ",".join(str(size) if size >= 0 else "SIZE" for size in expected)
            raise WorkloadError(
                f"{version.name} leaves dimensions of {tensor.name} free; say which sizes to send, such as "
                f"--shape {tensor.name}:{example}"
            )
        chosen = expected
    fits = len(chosen) == len(expected) and all(
        size == own or own < 0 for size, own in zip(chosen, expected, strict=True)
    )
    if not fits:
        wanted = ", ".join("any" if own < 0 else str(own) for own in expected)
        raise WorkloadError(
            f"--shape {tensor.name}:{','.join(map(str, chosen))} does not fit: {version.name} takes [{wanted}]"
            + (", the first of which is --batch" if version.max_batch_size else "")
        )
    if math.prod(chosen) > _MAX_BYTES:
        raise WorkloadError(
            f"--shape {tensor.name}:{','.join(map(str, chosen))}: {math.prod(chosen):,} values are too many; "
            f"choose smaller sizes"
        )
    return chosen


def _made_up(tensor: "Tensor", shape: tuple[int, ...], rng: np.random.Generator) -> bytes:
    """Returns made-up values in wire format."""
    if tensor.datatype == "BYTES":
        # Decimal numbers suit both tokenizers and models that parse numbers.
        texts = [str(number).encode() for number in rng.integers(0, 256, math.prod(shape))]
        return b"".join(struct.pack("<I", len(text)) + text for text in texts)
    if tensor.datatype not in _DTYPES:
        raise WorkloadError(f"no values can be made up for input {tensor.name} of type {tensor.datatype}")
    dtype = np.dtype(_DTYPES[tensor.datatype])
    if dtype.kind == "f":
        return rng.random(shape, np.float32).astype(dtype).tobytes()
    # Small numbers, which any integer input should accept.
    return rng.integers(0, 256 if dtype == np.uint8 else 2, shape).astype(dtype).tobytes()
