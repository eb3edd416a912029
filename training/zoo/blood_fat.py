"""blood-fat: linear regression of blood fat on age and weight.

error      mean squared error 1712.251 on the 25 people: the mean of three runs, all within 0.0003; the plane of least
           squares, in closed form, has 1712.249. Trained and measured on the same people
runs       seeds 0, 1 and 2, named before the first run; no run was left out
time       6 s per run, mostly Keras's start
hardware   2 cores of a shared x86-64 server with AVX-512, no GPU
versions   Python 3.11.7, TensorFlow 2.21.0, Keras 3.15.1
command    pixelserve train blood-fat --seed SEED
origin     set x09 of J. Burkardt's collection, after H. Spaeth, "Mathematical Algorithms for Linear Regression", 1991

Each step uses all 25 people, so the seed affects the initial weights only. The goal is 1.01 times the error of least
squares.
"""

from typing import Any

from .. import frameworks
from ..recipe import Goal, KerasRecipe, Optimizer

# Of the 25 people, rounded. Approximate values suffice: they only make both slopes learn at the same speed.
_MEAN = (39.0, 69.0)
_VARIANCE = (144.0, 156.0)


def build(_: int) -> Any:
    """Returns the untrained model: age in years and weight in kg float32 [N, 2] in, blood fat float32 [N, 1] out."""
    keras = frameworks.load().keras
    return keras.Sequential(
        [
            keras.Input((2,), name="features"),
            keras.layers.Normalization(mean=_MEAN, variance=_VARIANCE),
            keras.layers.Dense(1),
        ],
        name="blood-fat",
    )


RECIPE = KerasRecipe(
    name="blood-fat",
    summary="linear regression on age and weight",
    dataset="blood-fat",
    parameters=3,
    goal=Goal(1729.37, metric="mean_squared_error", split="training"),
    build=build,
    optimizer=Optimizer("sgd", 0.1),
    loss="mean_squared_error",
    epochs=40,
    batch_size=25,
    measured={0: 1712.2508, 1: 1712.2508, 2: 1712.2510},
    slowdown=0.01,
    training_s=6,
)
