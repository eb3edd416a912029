"""Building blocks of the zoo's larger networks."""

from typing import Any

import numpy as np
import pytest

from pixelserve_training import frameworks
from pixelserve_training.zoo import blocks

pytestmark = pytest.mark.slow


@pytest.fixture
def mixed(keras: Any) -> Any:
    """Has layers compute in bfloat16, with weights in float32."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy(before)


def slope(activation: Any, features: Any) -> Any:
    """Returns the gradient of the outputs' squared sum, a fifth of it."""
    tf = frameworks.load().tf
    with tf.GradientTape() as tape:
        tape.watch(features)
        loss = tf.reduce_sum(activation(features) ** 2) / 5
    return tape.gradient(loss, features)


def test_the_faster_silu_has_kerass_values_and_slopes(keras: Any, mixed: None) -> None:
    tf = frameworks.load().tf
    inputs = keras.Input((2001,))
    fast = keras.Model(inputs, blocks.activated(inputs, "silu"))
    assert type(fast.layers[-1]).__name__ == "FusedSilu"
    values = np.linspace(-20, 20, 2001, dtype=np.float32)[None]
    exact = tf.constant(values)
    rounded = tf.cast(exact, tf.bfloat16)
    # bfloat16 has eight bits of precision.
    np.testing.assert_allclose(fast(rounded).numpy().astype("f4"), keras.ops.silu(exact), rtol=2**-6, atol=2**-6)
    ours, theirs = slope(fast, rounded), slope(keras.ops.silu, exact)
    assert ours.dtype == tf.bfloat16
    np.testing.assert_allclose(ours.numpy().astype("f4"), theirs, rtol=2**-5, atol=2**-6)


def test_in_float32_an_activation_is_kerass_own(keras: Any) -> None:
    inputs = keras.Input((4,))
    model = keras.Model(inputs, blocks.activated(inputs, "silu"))
    assert isinstance(model.layers[-1], keras.layers.Activation)
