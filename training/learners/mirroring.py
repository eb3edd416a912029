"""A classifier that sees each image twice: original and mirrored."""

from typing import Any

from .. import frameworks
from ..errors import UsageError


def mirrored(model: Any) -> Any:
    """Returns a model that averages the logits of each image and its mirror image, with the weights of `model`.

    Mirroring does not change what an image shows, but a network's outputs differ a little by chance, so their mean is
    right more often, like an ensemble's. Logits are linear in the last layer's input, so the mean is taken before it,
    and the model still ends in a Dense layer with a softmax, as calibration requires.

    Args:
        model: images [N, H, W, C] in, probabilities [N, classes] out; its last layer is Dense.

    Raises:
        UsageError: its last layer is not Dense.
    """
    keras = frameworks.load().keras
    last = model.layers[-1]
    if not isinstance(last, keras.layers.Dense):
        raise UsageError(f"{model.name} ends in {last.name}; a mirrored model requires a Dense layer there")
    features = keras.Model(model.inputs[0], last.input, name="features")
    image = keras.Input(model.input_shape[1:], dtype=model.inputs[0].dtype, name="image")
    both = [features(image), features(image[:, :, ::-1, :])]
    return keras.Model(image, last(keras.layers.Average(name="both_ways")(both)), name=model.name)
