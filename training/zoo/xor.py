"""xor: the exclusive or, the smallest problem that needs a hidden layer.

accuracy   91.67 %, the mean of three runs: all four rows in two of them, three rows in one, so the goal of 100.00 % is
           missed; trained and measured on the same rows
runs       seeds 0, 1 and 2, named before the first run; no run was left out. Seed 2 stays at three rows
time       7 s per run
hardware   2 cores of a shared x86-64 server with AVX-512, no GPU
versions   Python 3.11.7, TensorFlow 2.21.0, Keras 3.15.1
command    pixelserve train xor --seed SEED
origin     the network of introductory courses: two hidden units and one output, all sigmoid, SGD of 0.1

An epoch uses each row 1,000 times, one row per step, because an epoch of four steps would cost more than its steps.
With two hidden units, about one start in four gets stuck at three rows: of three times 200 starts with other seeds,
simulated in NumPy, 72 % to 82 % had all rows right after 16,000 steps, and other initial weights, momentum or the
squared error were no better, so Keras's default initial weights stayed. More hidden units do better; see numpy-xor.
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
        name="xor",
    )


RECIPE = KerasRecipe(
    name="xor",
    summary="exclusive or: two hidden units and an output, all sigmoid",
    dataset="xor",
    parameters=9,
    goal=Goal(1.0, split="training"),
    build=build,
    optimizer=Optimizer("sgd", 0.1),
    loss="binary_crossentropy",
    epochs=5,
    batch_size=1,
    repeats=1000,
    measured={0: 1.0, 1: 1.0, 2: 0.75},
    slowdown=0.02,
    training_s=7,
)
