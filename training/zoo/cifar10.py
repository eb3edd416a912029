"""cifar10: a flagship; a residual network of 1.6 million parameters for small colour photographs."""

from typing import Any

from .. import frameworks
from ..recipe import Goal, KerasRecipe, Optimizer
from .blocks import convolution

_WIDTHS = (32, 64, 128, 256)


def build() -> Any:
    """Returns the untrained model: uint8 pixels [N, 32, 32, 3] in, probabilities float32 [N, 10] out."""
    keras = frameworks.load().keras
    layers = keras.layers
    first, second, third, fourth = _WIDTHS
    image = keras.Input((32, 32, 3), dtype="uint8", name="image")
    features = layers.Rescaling(1 / 64, offset=-1.9)(image)
    features = layers.AveragePooling2D(2)(convolution(convolution(features, first), second))
    features = _residual(features, second)
    features = layers.AveragePooling2D(2)(convolution(features, third))
    features = layers.AveragePooling2D(2)(convolution(features, fourth))
    features = _residual(features, fourth)
    features = layers.Rescaling(1 / 8)(layers.GlobalMaxPooling2D()(features))
    probabilities = layers.Dense(10, use_bias=False, activation="softmax", dtype="float32", name="probabilities")
    return keras.Model(image, probabilities(features), name="cifar10")


def _residual(features: Any, channels: int) -> Any:
    layers = frameworks.load().keras.layers
    return layers.Add()([features, convolution(convolution(features, channels), channels)])


def augmentation() -> list[Any]:
    """Returns layers that shift by up to four pixels, mirror half of the images, and paint over a square of eight."""
    layers = frameworks.load().keras.layers
    return [
        layers.RandomTranslation(4 / 32, 4 / 32, fill_mode="reflect", interpolation="nearest"),
        layers.RandomFlip("horizontal"),
        layers.RandomErasing(factor=1.0, scale=(1 / 16, 1 / 16), fill_value=121, value_range=(0, 255)),
    ]


RECIPE = KerasRecipe(
    name="cifar10",
    summary="flagship: residual network of eight convolutions",
    dataset="cifar10",
    parameters=1_649_000,
    goal=Goal(0.91, slowdown=36),
    build=build,
    optimizer=Optimizer(
        "sgd", 0.2, "cosine", warmup=0.2, options={"momentum": 0.9, "nesterov": True, "weight_decay": 5e-4}
    ),
    loss="categorical_crossentropy",
    label_smoothing=0.1,
    epochs=30,
    batch_size=256,
    held_out=0.1,
    augmentation=augmentation,
    precision="mixed_bfloat16",
    calibrated=True,
    measured={0: 0.0},
    training_s=0,
)
