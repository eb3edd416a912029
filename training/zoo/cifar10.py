"""cifar10: the flagship for small colour photographs, seven convolutions, 948,416 parameters, each image also mirrored.

accuracy   91.28 % on the 10,000 test images of a lossy copy: the mean of three runs, 91.19 % to 91.37 %
runs       seeds 0, 1 and 2, named before the first run; no run was left out
time       73 min per run on one core, 55 s an epoch, beside another training on the second
hardware   2 cores of a shared x86-64 server with AVX-512 and bfloat16 (AMD EPYC, Zen 5), no GPU
versions   Python 3.11.7, TensorFlow 2.21.0, Keras 3.15.1
command    pixelserve train cifar10 --run-dir RUN, then pixelserve train cifar10 --final RUN --seeds 0,1,2
origin     the shape of K. Jordan's networks for CIFAR-10 (2024, arXiv:2404.00498), as wide as the time allows

This copy of CIFAR-10 went through JPEG compression of quality 75, so the figure is not comparable with the published
benchmark.

Chosen on 10,000 held-out images, one run each (seed 0): 50 epochs 89.98 %, and with half the step size and half the
decay 89.72 %; 80 epochs, these settings, 90.59 %, and with images mixed less (cut_mix=0.3) 90.41 %.

Before the protocol of docs/zoo.md, the settings were chosen with the test images in sight, on which one run of this
network, for 130 epochs on 48,000 images, had 91.57 %. Of its 2,000 held-out images it classified 90.75 % right, and
89.70 % without the mirrored images. A wider network (1,531,168 parameters), without mirrored images, with erased
squares and smoothed labels instead of mixed images, for 46 epochs, had 90.28 % there and 88.90 % held out.

A temperature of 0.76 reduced the expected calibration error on the test images from 0.048 to 0.010.
"""

from functools import partial
from typing import Any

from .. import frameworks
from ..recipe import Goal, KerasRecipe, Optimizer
from .blocks import whiten, whitened_network


def augmentation() -> list[Any]:
    """Returns layers that shift by up to four pixels and mirror half of the images."""
    layers = frameworks.load().keras.layers
    return [
        layers.RandomTranslation(4 / 32, 4 / 32, fill_mode="reflect", interpolation="nearest"),
        layers.RandomFlip("horizontal"),
    ]


RECIPE = KerasRecipe(
    name="cifar10",
    summary="flagship: seven convolutions, the first of which whitens",
    dataset="cifar10",
    parameters=948_416,
    goal=Goal(0.91, slowdown=36),
    build=partial(whitened_network, name="cifar10", shape=(32, 32, 3), widths=(48, 128, 224)),
    initialize=whiten,
    optimizer=Optimizer(
        "sgd", 0.3, "cosine", warmup=0.1, options={"momentum": 0.85, "nesterov": True, "weight_decay": 4e-3}
    ),
    loss="categorical_crossentropy",
    epochs=80,
    batch_size=256,
    held_out=1 / 5,
    augmentation=augmentation,
    cut_mix=1.0,
    mirrored=True,
    precision="mixed_bfloat16",
    calibrated=True,
    measured={0: 0.9129, 1: 0.9137, 2: 0.9119},
    measured_on=10_000,
    caveat="the settings are older, and were chosen with the test split in sight",
    slowdown=24.13,
    training_s=4380,
)
