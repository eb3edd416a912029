"""Building blocks of the zoo's larger networks."""

from functools import cache
from typing import Any

import numpy as np

from .. import frameworks
from ..datasets import Array

# x times its sigmoid: the closest to the source's GELU that is as fast as a rectifier in ONNX Runtime.
_SMOOTH = "silu"
_WHITENING = "whitening"
_WHITENED_IMAGES = 5000
# Keeps directions with little variance from being amplified; pixels are scaled to a variance of about 1.
_LEAST_VARIANCE = 5e-4


# Learning rate of a normalisation's shift relative to the kernels' (Jordan 2024, section 3.4).
_SHIFT_SPEED = 64.0


def convolution(features: Any, channels: int, *, pooled: bool = False, activation: str = "relu") -> Any:
    """Returns features [N, H, W, C] after a 3x3 convolution without bias, batch normalisation and an activation.

    Args:
        features: the input.
        channels: number of output channels.
        pooled: whether to max-pool 2x2 before normalisation, which reduces its work to a quarter.
        activation: Keras's name of the activation.
    """
    keras = frameworks.load().keras
    layers = keras.layers
    initializer = keras.initializers.VarianceScaling(1 / 3, mode="fan_in", distribution="uniform")
    convolved = layers.Conv2D(channels, 3, padding="same", use_bias=False, kernel_initializer=initializer)(features)
    if pooled:
        convolved = layers.MaxPooling2D()(convolved)
    # The next layer's kernels scale as well; the memory is about ten steps, because there are few.
    return activated(batch_normalization(momentum=0.9, scale=False)(convolved), activation)


def batch_normalization(**options: Any) -> Any:
    """Returns Keras's batch normalisation for features [N, H, W, C]; with mixed precision, a faster equivalent."""
    layer = _fused_batch_normalization() if _is_mixed() else frameworks.load().keras.layers.BatchNormalization
    return layer(**options)


def activated(features: Any, activation: str) -> Any:
    """Returns features after an activation, by Keras's name; with mixed precision, a faster SiLU."""
    if activation == _SMOOTH and _is_mixed():
        return _fused_silu()()(features)
    return frameworks.load().keras.layers.Activation(activation)(features)


def whitened_network(classes: int, *, name: str, shape: tuple[int, int, int], widths: tuple[int, ...]) -> Any:
    """Returns the flagships' network: a fixed whitening convolution, then pairs of convolutions.

    It needs fewer epochs than most networks of its size: the architecture is that of K. Jordan, "94% on
    CIFAR-10 in 3.29 Seconds on a Single GPU" (2024, arXiv:2404.00498), with another activation. Set its weights with
    `whiten` before the first step. It maps uint8 pixels [N, H, W, C] to probabilities float32 [N, classes].

    Args:
        classes: number of classes.
        name: the model's name.
        shape: an image's height, width and channels.
        widths: channels of each pair of convolutions; each pair halves the image.
    """
    keras = frameworks.load().keras
    layers = keras.layers
    image = keras.Input(shape, dtype="uint8", name="image")
    # In float32: whitening amplifies small differences, and bfloat16's rounding errors with them.
    features = layers.Rescaling(1 / 64, offset=-2, dtype="float32")(image)
    whitening = layers.Conv2D(8 * shape[2], 2, use_bias=False, trainable=False, name=_WHITENING, dtype="float32")
    features = activated(whitening(features), _SMOOTH)
    for channels in widths:
        features = convolution(features, channels, pooled=True, activation=_SMOOTH)
        features = convolution(features, channels, activation=_SMOOTH)
    # A ninth keeps the logits small at first, when steps are large.
    features = layers.Rescaling(1 / 9)(layers.GlobalMaxPooling2D()(features))
    probabilities = layers.Dense(classes, use_bias=False, activation="softmax", dtype="float32", name="probabilities")
    return keras.Model(image, probabilities(features), name=name)


def whiten(model: Any, images: Array) -> None:
    """Sets the initial weights of a `whitened_network` from training images uint8 [N, H, W, C].

    The first convolution computes the principal components of 2x2 patches, each with variance 1 and in both signs. All
    others pass through as many of their first channels as they can, so pixels reach the last layer from the first step.
    """
    keras = frameworks.load().keras
    layer = model.get_layer(_WHITENING)
    scaled = keras.Model(model.input, layer.input).predict(images[:_WHITENED_IMAGES], verbose=0)
    components = _principal_components(np.asarray(scaled), layer.kernel_size)
    layer.set_weights([np.concatenate([components, -components], axis=-1)])
    for other in model.layers:
        if isinstance(other, keras.layers.Conv2D) and other is not layer:
            other.set_weights([_passing_through(other.get_weights()[0])])


def _principal_components(images: Array, size: tuple[int, int]) -> Array:
    """Returns filters float32 [height, width, channels, height * width * channels] that whiten patches of images."""
    patches = np.lib.stride_tricks.sliding_window_view(images, size, axis=(1, 2))
    channels = images.shape[-1]
    rows = patches.transpose(0, 1, 2, 4, 5, 3).reshape(-1, size[0] * size[1] * channels)
    variances, directions = np.linalg.eigh((rows.T @ rows) / len(rows))
    filters = directions / np.sqrt(variances + _LEAST_VARIANCE)
    return filters.reshape(*size, channels, -1).astype(np.float32)


def _passing_through(kernel: Array) -> Array:
    """Returns a kernel [height, width, in, out] whose first outputs are its inputs."""
    height, width, inputs, outputs = kernel.shape
    passed = range(min(inputs, outputs))
    kernel[..., : len(passed)] = 0
    kernel[height // 2, width // 2, passed, passed] = 1
    return kernel


@cache
def _fused_batch_normalization() -> Any:
    """Returns a BatchNormalization that trains in TensorFlow's fused kernel.

    Keras 3's layer makes eight passes over the features in float32, which cost as much as the convolutions; with this
    one, a flagship learns 2.7 times as many images per second on two cores. Its shift learns faster than the kernels,
    if the optimizer's steps scale with the gradient. The weights are the same, so served models use Keras's layer.
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
            shift = self.beta.value
            return tf.raw_ops.FusedBatchNormV3(
                x=inputs,
                scale=self.gamma.value if self.scale else tf.ones_like(shift),
                # Its value is the shift; its gradient is a multiple of the shift's.
                offset=shift + (_SHIFT_SPEED - 1) * (shift - tf.stop_gradient(shift)),
                mean=mean,
                variance=variance,
                epsilon=self.epsilon,
                is_training=training,
            )

    return FusedBatchNormalization


@cache
def _fused_silu() -> Any:
    """Returns a layer that computes SiLU, with a gradient in one pass.

    TensorFlow computes the gradient in eight passes, each from bfloat16 to float32 and back: a fifth of a flagship's
    step, compared with a thirtieth for XLA's single loop.
    """
    libraries = frameworks.load()
    tf = libraries.tf

    base: Any = libraries.keras.layers.Layer

    @tf.function(jit_compile=True)  # type: ignore[untyped-decorator]  # TensorFlow has no types
    def slope(features: Any, upstream: Any) -> Any:
        exact = tf.cast(features, tf.float32)
        sigmoid = tf.sigmoid(exact)
        gradient = tf.cast(upstream, tf.float32) * sigmoid * (1 + exact * (1 - sigmoid))
        return tf.cast(gradient, features.dtype)

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def silu(features: Any) -> Any:
        return tf.nn.silu(features), lambda upstream: slope(features, upstream)

    class FusedSilu(base):  # type: ignore[misc]  # Keras has no types
        def call(self, features: Any) -> Any:
            return silu(features)

    return FusedSilu


def _is_mixed() -> bool:
    return str(frameworks.load().keras.config.dtype_policy().name) == "mixed_bfloat16"
