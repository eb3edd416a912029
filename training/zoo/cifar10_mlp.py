"""cifar10-mlp: two hidden layers on CIFAR-10, with Keras's functional API: the limits of dense layers on photographs.

accuracy   51.06 % on the 10,000 test images of a lossy copy: the mean of three runs, 51.01 % to 51.16 %
runs       seeds 0, 1 and 2, named before the first run; no run was left out
time       52 s per run on one core, beside other programs on the second
hardware   2 cores of a shared x86-64 server with AVX-512, no GPU
versions   Python 3.11.7, TensorFlow 2.21.0, Keras 3.15.1
command    pixelserve train cifar10-mlp --run-dir RUN, then pixelserve train cifar10-mlp --final RUN --seeds 0,1,2
origin     Keras's functional API in introductory courses: the limits of dense layers on photographs

Averaged weights were chosen on held-out training images of mnist-mlp (97.8 %, 97.7 % without), fashion-softmax and
mnist-cnn, and are used here as well.

This copy of CIFAR-10 went through JPEG compression of quality 75, so the figure is not comparable with the published
benchmark.
"""

from typing import Any

from .. import frameworks
from ..recipe import Goal, KerasRecipe, Optimizer


def build(classes: int) -> Any:
    """Returns the untrained model: uint8 pixels [N, 32, 32, 3] in, probabilities float32 [N, classes] out."""
    keras = frameworks.load().keras
    layers = keras.layers
    image = keras.Input((32, 32, 3), dtype="uint8", name="image")
    features = layers.Flatten()(layers.Rescaling(1 / 255)(image))
    features = layers.Dense(200, activation="relu")(features)
    features = layers.Dense(150, activation="relu")(features)
    return keras.Model(
        image, layers.Dense(classes, activation="softmax", name="probabilities")(features), name="cifar10-mlp"
    )


RECIPE = KerasRecipe(
    name="cifar10-mlp",
    summary="two hidden layers of 200 and 150 units",
    dataset="cifar10",
    parameters=646_260,
    goal=Goal(0.50),
    build=build,
    optimizer=Optimizer("adam", 0.0005, averaging=0.999),
    epochs=10,
    batch_size=32,
    held_out=1 / 5,
    measured={0: 0.5116, 1: 0.5102, 2: 0.5101},
    measured_on=10_000,
    slowdown=0.26,
    training_s=52,
)
