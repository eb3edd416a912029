"""and: the logical and, with the network of xor.

accuracy   100.00 %, all four rows, in each of three runs; trained and measured on the same rows
runs       seeds 0, 1 and 2, named before the first run; no run was left out
time       6 s per run
hardware   2 cores of a shared x86-64 server with AVX-512, no GPU
versions   Python 3.11.7, TensorFlow 2.21.0, Keras 3.15.1
command    pixelserve train and --seed SEED
origin     the network of introductory courses: two hidden units and one output, all sigmoid, SGD of 0.1

An epoch uses each row 500 times, one row per step, because an epoch of four steps would cost more than its steps.
"""

from typing import Any

from .. import frameworks
from ..recipe import Goal, KerasRecipe, Optimizer


def build(classes: int) -> Any:
    """Returns the untrained model: two truth values float32 [N, 2] in, the probability of true float32 [N, 1] out."""
    keras = frameworks.load().keras
    return keras.Sequential(
        [
            keras.Input((2,), name="features"),
            keras.layers.Dense(2, activation="sigmoid"),
            keras.layers.Dense(classes - 1, activation="sigmoid"),
        ],
        name="and",
    )


RECIPE = KerasRecipe(
    name="and",
    summary="logical and: two hidden units and an output, all sigmoid",
    dataset="and",
    parameters=9,
    goal=Goal(1.0, split="training"),
    build=build,
    optimizer=Optimizer("sgd", 0.1),
    loss="binary_crossentropy",
    epochs=4,
    batch_size=1,
    repeats=500,
    measured={0: 1.0, 1: 1.0, 2: 1.0},
    slowdown=0.02,
    training_s=6,
)
