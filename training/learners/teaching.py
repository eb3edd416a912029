"""What a network learns from a teacher: the probabilities that it gives, beside the labels.

Hinton et al. 2015, "Distilling the Knowledge in a Neural Network", section 2.
"""

from functools import cache, partial
from typing import Any

from .. import frameworks
from ..recipe import Teacher

# A probability's logarithm is as good as its logit, since a softmax does not see what is added to all of them.
_SMALLEST_PROBABILITY = 1e-30


def taught(model: Any, teacher: Teacher, trained: Any) -> Any:
    """Returns a Keras layer that gives what `model` does and, while it learns, adds to its loss how far that is from
    what the teacher gives for the same images.

    Args:
        model: probabilities [N, classes] out.
        teacher: how it is taught.
        trained: the trained teacher; its weights stay as they are. It computes in the present precision.
    """
    copy = teacher.build(trained.output_shape[-1])
    copy.set_weights(trained.get_weights())
    return _layer_class()(model, copy, teacher.weight, teacher.temperature)


def divergence(given: Any, wanted: Any, temperature: float) -> Any:
    """Returns the mean Kullback-Leibler divergence of softened probabilities, times the temperature's square.

    The square makes up for gradients that shrink with it (Hinton et al. 2015, section 2).

    Args:
        given: probabilities [N, classes] that are to change.
        wanted: those that they are to become.
        temperature: what the logits of both are divided by.
    """
    keras = frameworks.load().keras
    given, wanted = (_log_softened(keras.ops, each, temperature) for each in (given, wanted))
    distances = keras.ops.sum(keras.ops.exp(wanted) * (wanted - given), axis=-1)
    return temperature**2 * keras.ops.mean(distances)


def _log_softened(ops: Any, probabilities: Any, temperature: float) -> Any:
    logits = ops.log(ops.maximum(ops.cast(probabilities, "float32"), _SMALLEST_PROBABILITY))
    return ops.log_softmax(logits / temperature)


@cache
def _layer_class() -> Any:
    """Returns the layer's class, which needs Keras."""
    base: Any = frameworks.load().keras.layers.Layer

    class Taught(base):  # type: ignore[misc]  # Keras has no types
        def __init__(self, pupil: Any, teacher: Any, weight: float, temperature: float) -> None:
            super().__init__()
            self._pupil = pupil
            # Not the teacher itself: its weights would be this layer's, and those of checkpoints and early stopping.
            self._ask = partial(teacher, training=False)
            self._weight, self._temperature = weight, temperature

        def call(self, images: Any, training: bool = False) -> Any:
            probabilities = self._pupil(images, training=training)
            if training:
                far = divergence(probabilities, self._ask(images), self._temperature)
                self.add_loss(self._weight * far)
            return probabilities

    return Taught
