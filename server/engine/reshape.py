"""Tensors that have one shape for clients and another in the graph: config.pbtxt's `reshape`, with Triton's meaning."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from .tensors import FREE, Array, TensorSpec

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Reshape:
    """The two shapes of a tensor. Free dimensions correspond in their order, the elements between them in number."""

    outside: Shape
    """The shape that clients see, batch dimension included."""
    inside: Shape
    """The shape in the graph, batch dimension included."""

    @property
    def keeps_elements(self) -> bool:
        """Whether both shapes have the same elements, whatever sizes the free dimensions get."""
        return _between_free(self.outside) == _between_free(self.inside)

    def suits(self, spec: TensorSpec) -> bool:
        """Returns whether a tensor of the graph has the inside shape."""
        return (
            self.keeps_elements
            and fits(self.inside, spec.shape)
            # What a batch may have more of must be free in the graph too.
            and not (self.inside[:1] == (FREE,) and spec.shape[:1] != (FREE,))
        )

    def enter(self, array: Array) -> Array:
        """Returns an input as the graph takes it; one that has the inside shape already is left alone."""
        return _moved(array, self.outside, self.inside)

    def leave(self, array: Array) -> Array:
        """Returns an output as clients see it; one that has the outside shape already is left alone."""
        return _moved(array, self.inside, self.outside)


def fits(one: Shape, other: Shape) -> bool:
    """Returns whether two shapes are the same up to free dimensions, of either."""
    return len(one) == len(other) and all(
        FREE in sizes or sizes[0] == sizes[1] for sizes in zip(one, other, strict=True)
    )


def seen_from_outside(spec: TensorSpec, reshapes: Mapping[str, Reshape]) -> TensorSpec:
    """Returns a tensor of the graph as clients see it: unchanged where its reshape does not suit it."""
    reshape = reshapes.get(spec.name)
    if reshape is None or not reshape.suits(spec):
        return spec
    return replace(spec, shape=reshape.outside, inside=spec.shape)


def _between_free(shape: Shape) -> list[int]:
    """Returns how many elements the dimensions before, between and behind the free ones make."""
    made = [1]
    for size in shape:
        if size == FREE:
            made.append(1)
        else:
            made[-1] *= size
    return made


def _moved(array: Array, source: Shape, target: Shape) -> Array:
    if not fits(source, array.shape):
        return array
    free = iter([size for size, declared in zip(array.shape, source, strict=True) if declared == FREE])
    return array.reshape([next(free) if size == FREE else size for size in target])
