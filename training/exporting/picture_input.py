"""Converts models of float tensors to accept images: raw uint8 pixels [N, height, width, channels]."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from .. import frameworks
from ..errors import UsageError
from ..progress import say
from . import pixel_range
from .signature import Signature
from .simplify import SUBGRAPHS

_CHANNELS = (1, 3)
_INPUT = "image"


@dataclass(frozen=True)
class Pictures:
    """How pixels become a model's input."""

    scale: float | None = None
    """The factor of pixels; None: not given, so models that scale pixels themselves receive raw pixels."""
    offset: float = 0.0
    """Added after scaling."""
    size: tuple[int, ...] | None = None
    """Height and width, or height, width and channels, of a model whose input does not define them, or None."""
    keeps_floats: bool = False
    """Whether the input always stays unchanged."""
    are_scaled_before: bool = False
    """Whether the server scales pixels, as the model declares."""


def with_size(signature: Signature, pictures: Pictures, *, source: str) -> Signature:
    """Returns a function whose input has the requested size.

    Raises:
        UsageError: the input has another size.
    """
    size = pictures.size
    if size is None:
        return signature
    asked = "x".join(map(str, size))
    shape = signature.shape[1:]
    if len(shape) == 1 and shape[0] is not None:
        if len(size) < 3:
            size = (*size, shape[0] // (size[0] * size[1]))
        if size[0] * size[1] * size[2] != shape[0]:
            raise UsageError(f"--size {asked}: {source} takes rows of {shape[0]} numbers, not that many pixels")
        return _reshaped(signature, size)
    known = shape if len(shape) == 3 else (*shape, 1)
    wanted = (*size, *known[len(size) :])
    fits = len(known) == 3 and all(has in (None, wants) for has, wants in zip(known, wanted, strict=True))
    if not fits:
        raise UsageError(f"--size {asked}: {source} takes {_described(shape)}")
    return replace(signature, shape=(signature.shape[0], *wanted[: len(shape)]))


def with_pixels(signature: Signature, pictures: Pictures, *, source: str) -> Signature:
    """Returns a function of raw uint8 pixels that scales them according to `pictures` and then runs `signature`.

    Raises:
        UsageError: the model's input is an integer tensor, so it was not trained on scaled pixels.
    """
    if not signature.dtype.startswith("float"):
        raise UsageError(f"--pixel-scale: {source} takes {signature.dtype} already; omit the option")
    size = _picture(signature)
    if size is not None:
        signature = _reshaped(signature, size)
    elif len(signature.shape) == 2:
        _mention_squares(signature.shape[1])
    scale, offset = pictures.scale, pictures.offset
    return _of_bytes(signature, lambda tensor: tensor * scale + offset if offset else tensor * scale)


def take_scaled_pixels(signature: Signature, model: ModelProto, pictures: Pictures) -> Signature:
    """Changes a converted model that scales pixels itself to accept uint8 pixels.

    Args:
        signature: the converted function.
        model: the ONNX model; changed in place.
        pictures: how pixels become the input.

    Returns:
        The function of the changed model.
    """
    size = _picture(signature)
    is_float = signature.dtype.startswith("float")
    if pictures.scale is not None:
        _mention_scaling_twice(model.graph, pictures.scale, pictures.offset)
    if pictures.scale is not None or pictures.keeps_floats or size is None or not is_float:
        return signature
    if signature.shape[0] is not None:  # an image is a sample of a batch
        return signature
    scaling = pixel_range.find(model.graph)
    # Rows of numbers may be a signal, which may also be normalised to a mean of 0.
    is_image = len(signature.shape) == _RANK
    if scaling is None or not (scaling.is_of_pixels if is_image else scaling.is_of_nothing_else):
        if is_image and not pictures.are_scaled_before:
            say(f"note: it takes {signature.dtype} tensors, not pictures; {_SAY_HOW}")
        return signature
    say(
        f"note: its first layers scale pixels (multiplied by {scaling.gain:.3g}, {scaling.offset:+.3g}), so it takes "
        f"pictures of 0 to 255; --pixel-scale none keeps its {signature.dtype} input"
    )
    inner = signature.shape
    signature = _of_bytes(_reshaped(signature, size), lambda tensor: tensor)
    _cast_in_front(model.graph, signature.shape, inner)
    return signature


def check_size(signature: Signature, graph: GraphProto, *, source: str) -> None:
    """Checks that an image classifier's input has a fixed size.

    Raises:
        UsageError: it accepts any size.
    """
    outputs = [len(output.type.tensor_type.shape.dim) for output in graph.output]
    if _picture(signature) and signature.dtype == "uint8" and None in signature.shape[1:] and outputs == [2]:
        raise UsageError(
            f"{source} takes pictures of any size; give the size that they are resized to, such as --size 224 "
            f"or --size 180x240, preferably that of its training"
        )


def _mention_squares(pixels: int | None) -> None:
    for channels in _CHANNELS:
        side = math.isqrt((pixels or 0) // channels)
        if side > 1 and side * side * channels == pixels:
            size = f"{side}x{side}x{channels}"
            say(f"note: rows of {pixels} numbers are not pictures; if they are pixels, give --size {size}")


def _mention_scaling_twice(graph: GraphProto, scale: float, offset: float) -> None:
    both = pixel_range.find(graph)
    if both is None or scale == 1:
        return
    gain = both.gain / scale
    if pixel_range.Scaling(gain, both.offset - gain * offset).is_of_pixels:
        say(
            f"note: its first layers scale pixels too (multiplied by {gain:.3g}), after --pixel-scale; omit the "
            f"option, unless it was trained on pixels scaled twice"
        )


_RANK = 4
_SAY_HOW = (
    "for pictures, give the scaling of its training with --pixel-scale: 1/255 for 0 to 1, 1/127.5-1 for -1 to 1, "
    "1 for raw pixels"
)


def _picture(signature: Signature) -> tuple[int | None, ...] | None:
    """Returns the height, width and channels of a possible image input, or None."""
    shape = signature.shape[1:]
    if len(shape) == 2 and None not in shape:
        return (*shape, 1)
    return shape if len(shape) == 3 and shape[2] in _CHANNELS else None


def _reshaped(signature: Signature, size: tuple[int | None, ...]) -> Signature:
    """Returns a function of images [N, height, width, channels] for one of the same numbers in another shape."""
    inner = signature.shape
    if inner[1:] == size:
        return signature
    # Keras's operations, unlike TensorFlow's, also accept the symbolic tensors of other backends' converters.
    ops = frameworks.load().keras.ops
    # -1 is the number of samples.
    rows = (-1, *inner[1:])
    return replace(
        signature,
        call=lambda tensor: signature.call(ops.reshape(tensor, rows)),
        shape=(inner[0], *size),
        input_name=_INPUT,
    )


def _of_bytes(signature: Signature, scaled: Callable[[Any], Any]) -> Signature:
    ops = frameworks.load().keras.ops
    return replace(
        signature, call=lambda tensor: signature.call(scaled(ops.cast(tensor, signature.dtype))), dtype="uint8"
    )


def _cast_in_front(graph: GraphProto, shape: tuple[int | None, ...], inner: tuple[int | None, ...]) -> None:
    """Prepends a cast from uint8 pixels of `shape` to the graph's float input, of shape `inner`."""
    before = graph.input[0]
    name = f"{before.name}_float"
    for node in _nodes(graph):
        node.input[:] = [name if each == before.name else each for each in node.input]
    steps = [helper.make_node("Cast", [_INPUT], [name], to=before.type.tensor_type.elem_type)]
    if shape != inner:
        graph.initializer.append(numpy_helper.from_array(np.array([-1, *inner[1:]], np.int64), f"{name}_shape"))
        steps[0].output[0] = f"{name}_picture"
        steps.append(helper.make_node("Reshape", [f"{name}_picture", f"{name}_shape"], [name]))
    nodes = [*steps, *graph.node]
    del graph.node[:], graph.input[:]
    graph.node.extend(nodes)
    sizes = [size or axis for axis, size in zip(("N", "height", "width", "channels"), shape, strict=True)]
    graph.input.append(helper.make_tensor_value_info(_INPUT, TensorProto.UINT8, sizes))


def _nodes(graph: GraphProto) -> Iterator[NodeProto]:
    """Yields the nodes of a graph and of the bodies of its loops and branches."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for body in (attribute.g, *attribute.graphs) if attribute.type in SUBGRAPHS else ():
                yield from _nodes(body)


def _described(shape: tuple[int | None, ...]) -> str:
    return "x".join("any" if size is None else str(size) for size in shape) or "single numbers"
