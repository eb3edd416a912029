"""mnist: the flagship for handwritten digits, five convolutions, 146,218 parameters.

accuracy   99.62 % on the 10,000 test images: one run; the goal of 99.65 % is missed
runs       seed 0, named before the run, since one takes over half an hour
time       38 min a run on one core, beside another training on the second
hardware   2 cores of a shared x86-64 server with AVX-512, no GPU
versions   Python 3.11.7, TensorFlow 2.21.0, Keras 3.15.1
command    pixelserve train mnist --seed SEED
origin     as mnist-cnn, with batch normalisation and no dense layer but the last, as deep as the time allows

On the 2,400 held-out images it reached 99.71 %. What moved that figure is the augmentation: behind Keras's own layers
for rotation, shear, zoom and translation, one after another, a network of three convolutions reached 98.8 % of sharp
images and 99.3 % of images that were blurred as those that it had learned from (augmentation.py); behind one affine
step it reached 99.75 %. That network's test images were read, too: 99.62 % with the same order of samples in each
epoch, 99.60 % with another in each, after 120 epochs. So were those of two more runs of this one: with elastic
distortion (Simard et al. 2003) in the same step 99.63 %, and without label smoothing besides 99.60 %, which is chance.
A temperature of 0.50 brought the expected calibration error on the test images from 0.088 to 0.002. Widths are
multiples of 16, which ONNX Runtime computes faster than those between.
"""

from typing import Any

from .. import frameworks
from ..recipe import Goal, KerasRecipe, Optimizer
from .augmentation import random_affine
from .blocks import convolution


def build(classes: int) -> Any:
    """Returns the untrained model: uint8 pixels [N, 28, 28, 1] in, probabilities float32 [N, classes] out."""
    keras = frameworks.load().keras
    layers = keras.layers
    image = keras.Input((28, 28, 1), dtype="uint8", name="image")
    features = layers.Rescaling(1 / 255)(image)
    features = convolution(features, 16, pooled=True)
    features = convolution(features, 32, pooled=True)
    features = convolution(features, 64)
    features = convolution(features, 64, pooled=True)
    features = layers.Dropout(0.3)(layers.Flatten()(convolution(features, 128)))
    probabilities = layers.Dense(classes, activation="softmax", dtype="float32", name="probabilities")
    return keras.Model(image, probabilities(features), name="mnist")


def augmentation() -> list[Any]:
    """Returns a layer that changes four images of five: turned, sheared, zoomed and shifted by about a tenth."""
    return [random_affine(rotation_degrees=15, shear_degrees=10, zoom=0.12, shift_pixels=2.5, share=0.8)]


RECIPE = KerasRecipe(
    name="mnist",
    summary="flagship: five convolutions with batch normalisation",
    dataset="mnist",
    parameters=146_218,
    goal=Goal(0.9965, slowdown=1.5),
    build=build,
    optimizer=Optimizer("adam", 0.003, "cosine", warmup=0.05),
    loss="categorical_crossentropy",
    label_smoothing=0.1,
    epochs=100,
    batch_size=128,
    held_out=0.04,
    augmentation=augmentation,
    precision="mixed_bfloat16",
    calibrated=True,
    inversion="auto",
    measured={0: 0.9962},
    training_s=2312,
)
