"""cifar10: the flagship for small colour photographs, seven convolutions, 1.5 million parameters.

accuracy   90.28 % on the 10,000 test images of a lossy copy: one run; the goal of 91.00 % is missed
runs       seed 0, named before the run, since one takes 125 minutes
time       125 min a run on one core, beside other trainings and tests on the second
hardware   2 cores of a shared x86-64 server with AVX-512, no GPU
versions   Python 3.11.7, TensorFlow 2.21.0, Keras 3.15.1
command    pixelserve train cifar10 --seed SEED
origin     the shape of K. Jordan's networks for CIFAR-10 (2024, arXiv:2404.00498), as wide as the time allows

CIFAR-10 is a copy here whose images went through JPEG compression of quality 75: the figure is not the published
benchmark's. On the 2,000 held-out images it reached 88.90 %. An earlier run of 38 epochs, with larger erased squares
and twice the decay, was right about 88.3 % of them four epochs before its end, and eight epochs of the same network
with little augmentation reached 87.7 %: a few more epochs bring little. Behind its augmentation it is right about
98.5 % of what it learns from, so that stronger regularisation over several times as many epochs is what may help. A
temperature of 0.70 brought the expected calibration error on the test images from 0.089 to 0.011.
"""

from functools import partial
from typing import Any

from .. import frameworks
from ..recipe import Goal, KerasRecipe, Optimizer
from .blocks import whiten, whitened_network


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
    summary="flagship: seven convolutions, the first of which whitens",
    dataset="cifar10",
    parameters=1_531_168,
    goal=Goal(0.91, slowdown=36),
    build=partial(whitened_network, name="cifar10", shape=(32, 32, 3), widths=(64, 192, 256)),
    initialize=whiten,
    optimizer=Optimizer(
        "sgd", 0.3, "cosine", warmup=0.2, options={"momentum": 0.85, "nesterov": True, "weight_decay": 4e-3}
    ),
    loss="categorical_crossentropy",
    label_smoothing=0.1,
    epochs=46,
    batch_size=256,
    held_out=0.04,
    augmentation=augmentation,
    precision="mixed_bfloat16",
    calibrated=True,
    measured={0: 0.9028},
    training_s=7502,
)
