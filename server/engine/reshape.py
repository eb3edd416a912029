"""Tensors whose shape for clients differs from the graph's: config.pbtxt's `reshape`, as in Triton."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from .tensors import FREE, Array, TensorSpec

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Reshape:
    """The two shapes of a tensor. Free dimensions correspond in order; between them, element counts are equal."""

    outside: Shape
    """The clients' shape, with the batch dimension."""
    inside: Shape
    """The graph's shape, with the batch dimension."""

    @property
    def keeps_elements(self) -> bool:
        """Whether both shapes have equal element counts for any sizes of the free dimensions."""
        return _between_free(self.outside) == _between_free(self.inside)

    def suits(self, spec: TensorSpec) -> bool:
        """Returns whether a tensor of the graph has the inside shape."""
        return (
            self.keeps_elements
            and fits(self.inside, spec.shape)
            # Dimensions that vary by batch must be free in the graph too.
            and not (self.inside[:1] == (FREE,) and spec.shape[:1] != (FREE,))
        )

    def enter(self, array: Array) -> Array:
        """Returns an input in the graph's shape; unchanged if it already has it."""
        return _moved(array, self.outside, self.inside)

    def leave(self, array: Array) -> Array:
        """Returns an output in the clients' shape; unchanged if it already has it."""
        return _moved(array, self.inside, self.outside)


def fits(one: Shape, other: Shape) -> bool:
    """Returns whether two shapes are equal except for free dimensions of either."""
    return len(one) == len(other) and all(
        FREE in sizes or sizes[0] == sizes[1] for sizes in zip(one, other, strict=True)
    )


def seen_from_outside(spec: TensorSpec, reshapes: Mapping[str, Reshape]) -> TensorSpec:
    """Returns a tensor of the graph as clients see it; unchanged if its reshape does not fit."""
    reshape = reshapes.get(spec.name)
    if reshape is None or not reshape.suits(spec):
        return spec
    return replace(spec, shape=reshape.outside, inside=spec.shape)


def _between_free(shape: Shape) -> list[int]:
    """Returns the element counts before, between and after the free dimensions."""
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
