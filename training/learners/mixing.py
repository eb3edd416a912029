"""Training images that are made of two: CutMix.

Yun et al. 2019, "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features".
"""

from typing import Any

from .. import frameworks


def cut_mixed(batches: Any, factor: float) -> Any:
    """Returns batches in which a rectangle of each image is another's of its batch, and as much of its label as well.

    Keras's layer does it, here rather than in front of the model since labels change with the images.

    Args:
        batches: a tf.data.Dataset of images [N, H, W, C] and one-hot labels [N, classes]; the result's are float32.
        factor: the greatest parameter of the Beta distribution that the rectangles' sizes come from; each batch draws
            its own, from 0 up. Below 1, small and large rectangles are likelier than those of half an image.
    """
    cut_mix = frameworks.load().keras.layers.CutMix(factor)

    def mix(images: Any, labels: Any) -> Any:
        mixed = cut_mix({"images": images, "labels": labels})
        return mixed["images"], mixed["labels"]

    return batches.map(mix)
