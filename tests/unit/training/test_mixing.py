"""CutMix: images of two, labels of two."""

from typing import Any

import numpy as np
import pytest

from pixelserve_training import frameworks
from pixelserve_training.learners.mixing import cut_mixed

pytestmark = pytest.mark.slow


@pytest.fixture
def mixed(keras: Any) -> tuple[Any, Any]:
    """Images and labels of four batches; before they were mixed, all pixels of an image were ten times its class."""
    tf = frameworks.load().tf
    keras.utils.set_random_seed(0)
    classes = np.arange(64) % 4
    images = np.broadcast_to(10 * classes[:, None, None, None], (64, 16, 16, 3)).astype(np.uint8)
    batches = tf.data.Dataset.from_tensor_slices((images, np.eye(4, dtype=np.float32)[classes])).batch(16)
    both = list(cut_mixed(batches, 1.0))
    return np.concatenate([images for images, _ in both]), np.concatenate([labels for _, labels in both])


def test_a_label_has_as_much_of_a_class_as_the_image_has_of_its_pixels(mixed: tuple[Any, Any]) -> None:
    images, labels = mixed
    shares = np.stack([(images == 10 * each).mean(axis=(1, 2, 3)) for each in range(4)], axis=1)
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    # A rectangle's edges lie between pixels; it covers whole ones.
    np.testing.assert_allclose(labels, shares, atol=2 * 16 / 16**2)
    np.testing.assert_allclose(labels.sum(axis=1), 1, rtol=1e-5)


def test_some_images_are_mixed_and_each_batch_in_its_own_way(mixed: tuple[Any, Any]) -> None:
    images, _ = mixed
    is_mixed = np.ptp(images, axis=(1, 2, 3)) > 0
    assert 16 < is_mixed.sum() < 64
    assert not np.array_equal(images[:16], images[16:32])
