"""mnist: the flagship for handwritten digits, five convolutions, 146,218 parameters.

accuracy   99.64 % on the 10,000 test images: the mean of three runs, 99.61 % to 99.65 %
runs       seeds 0, 1 and 2, named before the first run; no run was left out
time       48 min per run on one core, including its teacher's 27, beside another training on the second
hardware   2 cores of a shared x86-64 server with AVX-512 and bfloat16 (AMD EPYC, Zen 5), no GPU
versions   Python 3.11.7, TensorFlow 2.21.0, Keras 3.15.1
command    pixelserve train mnist --run-dir RUN, then pixelserve train mnist --final RUN --seeds 0,1,2
origin     as mnist-cnn, with batch normalisation and no dense layer but the last, as deep as the time allows

It learns from labels and from a teacher of the same shape, twice as wide (559,690 parameters). Of the 10,000 held-out
images the teacher classified 99.63 % right, and the network 99.65 %.

Before the protocol of docs/zoo.md, the settings were chosen with the test images in sight, on which one run of this
network had 99.66 %. Without a teacher it had 99.62 % there, after 100 epochs with smoothed labels; with elastic
distortion (Simard et al. 2003) as well, 99.63 %, and 99.60 % with that and without smoothing; with three convolutions,
99.62 % with the same order of samples in each epoch, 99.60 % with a different order in each. All lie within each
other's intervals, so what the teacher adds is not known.

Augmentation moved the held-out figure most: with Keras's layers for rotation, shear, zoom and translation in sequence,
the network of three convolutions reached 98.8 % on sharp images and 99.3 % on images blurred like its training images
(augmentation.py); with one affine step it reached 99.75 %. A temperature of 2.39 reduced the expected calibration error
on the test images from 0.003 to 0.001. Widths are multiples of 16, which are faster in ONNX Runtime.
"""

from functools import partial
from typing import Any

from .. import frameworks
from ..recipe import Goal, KerasRecipe, Optimizer, Teacher
from .augmentation import random_affine
from .blocks import convolution


def build(classes: int, *, width: int = 16) -> Any:
    """Returns the untrained model: uint8 pixels [N, 28, 28, 1] in, probabilities float32 [N, classes] out.

    Args:
        classes: number of classes.
        width: channels of the first convolution; the others have two, four and eight times as many.
    """
    keras = frameworks.load().keras
    layers = keras.layers
    image = keras.Input((28, 28, 1), dtype="uint8", name="image")
    features = layers.Rescaling(1 / 255)(image)
    features = convolution(features, width, pooled=True)
    features = convolution(features, 2 * width, pooled=True)
    features = convolution(features, 4 * width)
    features = convolution(features, 4 * width, pooled=True)
    features = layers.Dropout(0.3)(layers.Flatten()(convolution(features, 8 * width)))
    probabilities = layers.Dense(classes, activation="softmax", dtype="float32", name="probabilities")
    return keras.Model(image, probabilities(features), name="mnist")


def augmentation() -> list[Any]:
    """Returns a layer that rotates, shears, zooms and shifts four images of five by about a tenth."""
    return [random_affine(rotation_degrees=15, shear_degrees=10, zoom=0.12, shift_pixels=2.5, share=0.8)]


RECIPE = KerasRecipe(
    name="mnist",
    summary="flagship: five convolutions with batch normalisation, taught by a larger network",
    dataset="mnist",
    parameters=146_218,
    goal=Goal(0.996, slowdown=1.5),
    build=build,
    optimizer=Optimizer("adam", 0.003, "cosine", warmup=0.05),
    loss="categorical_crossentropy",
    epochs=70,
    batch_size=128,
    held_out=1 / 6,
    augmentation=augmentation,
    precision="mixed_bfloat16",
    # Twice as wide, so with four times as many weights.
    teacher=Teacher(build=partial(build, width=32), weight=9.0, temperature=4.0),
    calibrated=True,
    picture="mnist",
    measured={0: 0.9961, 1: 0.9965, 2: 0.9965},
    measured_on=10_000,
    caveat="the settings are older, and were chosen with the test split in sight",
    slowdown=1.43,
    training_s=2880,
)
