"""What the zoo's larger networks are put together from."""

from functools import cache
from typing import Any

from .. import frameworks


def convolution(features: Any, channels: int, *, size: int = 3, strides: int = 1) -> Any:
    """Returns features [N, H, W, C] after a convolution without bias, batch normalisation and a rectifier."""
    layers = frameworks.load().keras.layers
    convolved = layers.Conv2D(channels, size, strides=strides, padding="same", use_bias=False)(features)
    return layers.ReLU()(batch_normalization()(convolved))


def batch_normalization() -> Any:
    """Returns a batch normalisation layer with a memory of about ten steps; a faster one where precision is mixed."""
    keras = frameworks.load().keras
    mixed = keras.config.dtype_policy().name == "mixed_bfloat16"
    layer = _fused_batch_normalization() if mixed else keras.layers.BatchNormalization
    return layer(momentum=0.9)


def residual_network(classes: int, *, name: str, shape: tuple[int, int, int], widths: tuple[int, int, int, int]) -> Any:
    """Returns the network of the flagships: eight convolutions, of which four lie in two residual blocks.

    Wide and shallow, it learns more in little time than a deep one: the shape won DAWNBench's contest of fast training
    on CIFAR-10 (D. Page, "How to Train Your ResNet", 2018). It takes uint8 pixels [N, H, W, C] and gives probabilities
    float32 [N, classes].

    Args:
        classes: how many there are.
        name: the model's name.
        shape: an image's height, width and channels.
        widths: channels of the first convolution, and after each halving of the image.
    """
    keras = frameworks.load().keras
    layers = keras.layers
    image = keras.Input(shape, dtype="uint8", name="image")
    features = layers.Rescaling(1 / 64, offset=-2)(image)
    features = convolution(features, widths[0])
    features = layers.MaxPooling2D()(convolution(features, widths[1]))
    features = _residual(features)
    features = layers.MaxPooling2D()(convolution(features, widths[2]))
    features = layers.MaxPooling2D()(convolution(features, widths[3]))
    features = _residual(features)
    # An eighth keeps the first logits small, where the steps are large.
    features = layers.Rescaling(1 / 8)(layers.GlobalMaxPooling2D()(features))
    probabilities = layers.Dense(classes, use_bias=False, activation="softmax", dtype="float32", name="probabilities")
    return keras.Model(image, probabilities(features), name=name)


def _residual(features: Any) -> Any:
    channels = features.shape[-1]
    return frameworks.load().keras.layers.Add()([features, convolution(convolution(features, channels), channels)])


@cache
def _fused_batch_normalization() -> Any:
    """Returns a BatchNormalization that trains in TensorFlow's fused kernel.

    Keras 3's own makes eight passes over the features in float32, which cost as much as the convolutions; with this one
    the flagship for CIFAR-10 learns 2.7 times as many images a second on two cores. The weights are the same, so that a
    model that is served is built with Keras's own.
    """
    libraries = frameworks.load()
    tf = libraries.tf

    base: Any = libraries.keras.layers.BatchNormalization

    class FusedBatchNormalization(base):  # type: ignore[misc]  # Keras has no types
        def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
            if not training:
                return self._normalize(inputs, self.moving_mean.value, self.moving_variance.value, training=False)[0]
            outputs, mean, variance = self._normalize(inputs, [], [], training=True)[:3]
            self.moving_mean.assign(self.moving_mean * self.momentum + mean * (1 - self.momentum))
            self.moving_variance.assign(self.moving_variance * self.momentum + variance * (1 - self.momentum))
            return outputs

        def _normalize(self, inputs: Any, mean: Any, variance: Any, *, training: bool) -> Any:
            return tf.raw_ops.FusedBatchNormV3(
                x=inputs,
                scale=self.gamma.value,
                offset=self.beta.value,
                mean=mean,
                variance=variance,
                epsilon=self.epsilon,
                is_training=training,
            )

    return FusedBatchNormalization
