"""Temperature scaling: calibrates a classifier's confidence without changing predictions.

Guo et al. 2017, "On Calibration of Modern Neural Networks", section 4.2: a temperature divides all logits. It minimises
the negative log-likelihood on held-out samples. Not scikit-learn's CalibratedClassifierCV(method="temperature"), which
minimises the same but keeps the temperature to itself, while it must go into the model's last layer.
"""

from typing import Any

import numpy as np

from ..datasets import Array
from ..errors import SourceError
from ..progress import say

LEAST_SAMPLES = 1000
"""The fewest samples that a temperature is found on: found on a single one, it sharpened probabilities fivefold."""

_SMALLEST_PROBABILITY = 1e-30
_TEMPERATURES = (0.05, 20.0)


def are_enough(samples: int) -> bool:
    """Returns whether so many held-out samples suffice to find a temperature; if not, says so."""
    if samples >= LEAST_SAMPLES:
        return True
    say(
        f"warning: probabilities are not calibrated: a temperature needs at least {LEAST_SAMPLES:,} held-out samples, "
        f"and there are {samples:,}; add samples, or hold out more with --hold-out"
    )
    return False


def find_temperature(probabilities: Array, labels: Array) -> float:
    """Returns the temperature with the minimum negative log-likelihood.

    Args:
        probabilities: float [N, classes], a softmax's output; its logarithm can replace the logits, because a constant
            added to all logits does not change a softmax.
        labels: integer [N], the index of each sample's label.
    """
    # Imported here, because exporting and measuring do not need it.
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    logits = _logits(probabilities)

    def loss(log_temperature: float) -> float:
        chosen = log_softmax(logits / np.exp(log_temperature), axis=1)[np.arange(len(labels)), labels]
        return float(-chosen.mean())

    found = minimize_scalar(loss, bounds=np.log(_TEMPERATURES), method="bounded")
    return float(np.exp(found.x))


def apply_temperature(probabilities: Array, temperature: float) -> Array:
    """Returns probabilities, float [N, classes], with their logits divided by `temperature`."""
    from scipy.special import softmax

    return np.asarray(softmax(_logits(probabilities) / temperature, axis=1), probabilities.dtype)


def divide_logits(model: Any, temperature: float) -> None:
    """Divides a Keras classifier's logits by `temperature`, in the weights of its last layer.

    Raises:
        SourceError: its last layer is not a Dense layer with a softmax.
    """
    layer = model.layers[-1]
    if type(layer).__name__ != "Dense" or layer.activation.__name__ != "softmax":
        raise SourceError(f"{model.name} ends in {layer.name}; a temperature requires a Dense layer with a softmax")
    layer.set_weights([weights / temperature for weights in layer.get_weights()])


def _logits(probabilities: Array) -> Array:
    return np.log(np.maximum(probabilities.astype(np.float64), _SMALLEST_PROBABILITY))
