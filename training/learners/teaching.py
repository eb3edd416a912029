"""Distillation: a network learns a teacher's probabilities beside the labels.

Hinton et al. 2015, "Distilling the Knowledge in a Neural Network", section 2. Not keras.distillation.Distiller: its
teacher would see other images than an augmented network, its held-out loss includes the teacher's, so early stopping
could not use it, and its weights include the teacher's, so each checkpoint would hold both.
"""

from functools import cache, partial
from typing import Any

from .. import frameworks
from ..recipe import Teacher

# The logarithm of a probability serves as its logit, because a softmax ignores a common offset.
_SMALLEST_PROBABILITY = 1e-30


def taught(model: Any, teacher: Teacher, trained: Any) -> Any:
    """Returns a Keras layer with the outputs of `model` that, in training, adds their divergence from the teacher's.

    Args:
        model: probabilities [N, classes] out.
        teacher: the distillation's parameters.
        trained: the trained teacher, whose weights are frozen. It computes in the current precision.
    """
    copy = teacher.build(trained.output_shape[-1])
    copy.set_weights(trained.get_weights())
    return _layer_class()(model, copy, teacher.weight, teacher.temperature)


def divergence(given: Any, wanted: Any, temperature: float) -> Any:
    """Returns the mean Kullback-Leibler divergence of softened probabilities, times the squared temperature.

    The square makes up for gradients that shrink with it (Hinton et al. 2015, section 2).

    Args:
        given: the student's probabilities [N, classes].
        wanted: the teacher's probabilities [N, classes].
        temperature: the divisor of both logits.
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
    """Returns the layer's class, which requires Keras."""
    base: Any = frameworks.load().keras.layers.Layer

    class Taught(base):  # type: ignore[misc]  # Keras has no types
        def __init__(self, pupil: Any, teacher: Any, weight: float, temperature: float) -> None:
            super().__init__()
            self._pupil = pupil
            # Not the teacher itself, whose weights would count as this layer's in checkpoints and early stopping.
            self._ask = partial(teacher, training=False)
            self._weight, self._temperature = weight, temperature

        def call(self, images: Any, training: bool = False) -> Any:
            probabilities = self._pupil(images, training=training)
            if training:
                far = divergence(probabilities, self._ask(images), self._temperature)
                self.add_loss(self._weight * far)
            return probabilities

    return Taught
