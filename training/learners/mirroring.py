"""A classifier that looks at each image twice: as it is, and mirrored."""

from typing import Any

from .. import frameworks
from ..errors import UsageError


def mirrored(model: Any) -> Any:
    """Returns a model that takes the mean logits of each image and of its mirror image, with the weights of `model`.

    A thing stays what it is in a mirror, but what a network makes of it differs a little, by chance: the mean is right
    more often, as an ensemble's is. The logits are linear in what the last layer takes, so that the mean is
    taken before it, and the model still ends in a Dense layer with a softmax, as calibration wants it.

    Args:
        model: images [N, H, W, C] in, probabilities [N, classes] out, from a Dense layer that comes last.

    Raises:
        UsageError: its last layer is no Dense one.
    """
    keras = frameworks.load().keras
    last = model.layers[-1]
    if not isinstance(last, keras.layers.Dense):
        raise UsageError(f"{model.name} ends in {last.name}; a mirrored model wants a Dense layer there")
    features = keras.Model(model.inputs[0], last.input, name="features")
    image = keras.Input(model.input_shape[1:], dtype=model.inputs[0].dtype, name="image")
    both = [features(image), features(image[:, :, ::-1, :])]
    return keras.Model(image, last(keras.layers.Average(name="both_ways")(both)), name=model.name)
