"""Training images composed of two: CutMix.

Yun et al. 2019, "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features".
"""

from typing import Any

from .. import frameworks


def cut_mixed(batches: Any, factor: float) -> Any:
    """Returns batches in which a rectangle of each image, and that share of its label, is another's of the batch.

    Keras's layer does it; it is applied here and not before the model because labels change as well.

    Args:
        batches: a tf.data.Dataset of images [N, H, W, C] and one-hot labels [N, classes]; the result's are float32.
        factor: maximum parameter of the Beta distribution of the rectangles' sizes; each batch draws its own, from 0
            up. Below 1, small and large rectangles are likelier than those of half an image.
    """
    cut_mix = frameworks.load().keras.layers.CutMix(factor)

    def mix(images: Any, labels: Any) -> Any:
        mixed = cut_mix({"images": images, "labels": labels})
        return mixed["images"], mixed["labels"]

    return batches.map(mix)
