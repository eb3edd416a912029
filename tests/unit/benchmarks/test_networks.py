"""The networks for load times have the architectures of their names."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from benchmarks.compare.loading import grown_limit_mb
from benchmarks.compare.networks import write_efficientnet_b0, write_mobilenet_v2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("write", "weights"),
    [
        # As Keras counts them, with each convolution's batch normalization folded into its bias.
        pytest.param(write_mobilenet_v2, 3_487_816, id="MobileNetV2"),
        pytest.param(write_efficientnet_b0, 5_267_540, id="EfficientNetB0"),
    ],
)
def test_a_network_has_the_weights_of_its_name_and_computes(
    tmp_path: Path, write: Callable[[Path], None], weights: int
) -> None:
    path = tmp_path / "network" / "1" / "model.onnx"
    write(path)
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert sum(int(np.prod(each.dims)) for each in model.graph.initializer if each.dims) == weights
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (scores,) = session.run(None, {"x": np.random.default_rng(0).random((2, 3, 224, 224), np.float32)})
    assert scores.shape == (2, 1000)
    np.testing.assert_allclose(scores.sum(axis=1), 1, rtol=1e-4)


def test_the_limit_of_memory_grows_with_the_file() -> None:
    assert grown_limit_mb(14_000_000) == 95
