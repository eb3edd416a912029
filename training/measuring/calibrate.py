"""Temperature scaling: makes a classifier's confidence honest without changing a prediction.

Guo et al. 2017, "On Calibration of Modern Neural Networks", section 4.2: one number divides all logits, found by least
negative log-likelihood on samples that the model has not learned from.
"""

from typing import Any

import numpy as np

from ..datasets import Array
from ..errors import SourceError

_SMALLEST_PROBABILITY = 1e-30
_TEMPERATURES = (0.05, 20.0)


def find_temperature(probabilities: Array, labels: Array) -> float:
    """Returns the temperature of the least negative log-likelihood.

    Args:
        probabilities: float [N, classes], a softmax's output; its logarithm is as good as the logits, since a softmax
            does not see what is added to all of them.
        labels: integer [N], the index of each sample's label.
    """
    # Loaded here, since exporting and measuring do without it.
    from scipy.optimize import minimize_scalar

    logits = np.log(np.maximum(probabilities.astype(np.float64), _SMALLEST_PROBABILITY))

    def loss(log_temperature: float) -> float:
        chosen = _log_softmax(logits / np.exp(log_temperature))[np.arange(len(labels)), labels]
        return float(-chosen.mean())

    found = minimize_scalar(loss, bounds=np.log(_TEMPERATURES), method="bounded")
    return float(np.exp(found.x))


def apply_temperature(probabilities: Array, temperature: float) -> Array:
    """Returns probabilities float [N, classes] as they are where the logits are divided by `temperature`."""
    logits = np.log(np.maximum(probabilities.astype(np.float64), _SMALLEST_PROBABILITY))
    return np.exp(_log_softmax(logits / temperature)).astype(probabilities.dtype)


def divide_logits(model: Any, temperature: float) -> None:
    """Divides a Keras classifier's logits by `temperature`, in the weights of its last layer.

    Raises:
        SourceError: its last layer is no Dense one with a softmax.
    """
    layer = model.layers[-1]
    if type(layer).__name__ != "Dense" or layer.activation.__name__ != "softmax":
        raise SourceError(f"{model.name} ends in {layer.name}; a temperature requires a Dense layer with a softmax")
    layer.set_weights([weights / temperature for weights in layer.get_weights()])


def _log_softmax(logits: Array) -> Array:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))
