"""fashion-softmax: one dense layer with a softmax on Fashion-MNIST, 7,850 parameters: logistic regression in Keras.

accuracy   85.53 % on the 10,000 held-out training images: the mean of three runs, 85.48 % to 85.60 %
runs       seeds 0, 1 and 2, named before the first run; no run was left out
time       7 s per run on one core, beside other programs on the second
hardware   2 cores of a shared x86-64 server with AVX-512, no GPU
versions   Python 3.11.7, TensorFlow 2.21.0, Keras 3.15.1
command    pixelserve train fashion-softmax --seed SEED
origin     logistic regression with one Dense layer on Fashion-MNIST, as in introductory Keras courses

Averaging was chosen on the same held-out images, with the course's fixed split of 48,000 training and 12,000 validation
images: 84.7 % without, 85.6 % with. No test image was used.
"""

from typing import Any

from .. import frameworks
from ..recipe import Goal, KerasRecipe, Optimizer


def build(classes: int) -> Any:
    """Returns the untrained model: uint8 pixels [N, 28, 28, 1] in, probabilities float32 [N, classes] out."""
    keras = frameworks.load().keras
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((28, 28, 1), dtype="uint8", name="image"),
            layers.Rescaling(1 / 255),
            layers.Flatten(),
            layers.Dense(classes, activation="softmax", name="probabilities"),
        ],
        name="fashion-softmax",
    )


RECIPE = KerasRecipe(
    name="fashion-softmax",
    summary="one dense layer with a softmax",
    dataset="fashion-mnist",
    parameters=7_850,
    goal=Goal(0.846, split="validation"),
    build=build,
    optimizer=Optimizer("adam", 0.001, averaging=0.999),
    epochs=5,
    batch_size=32,
    held_out=1 / 6,
    picture="inversion=auto",
    measured={0: 0.8548, 1: 0.856, 2: 0.8551},
    measured_on=10_000,
    slowdown=0.2,
    training_s=7,
)
