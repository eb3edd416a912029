"""ModelConfig's answer has an image input's channel order, for Triton's image clients."""

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pixelserve.oip import model_config_pb2 as pb
from pixelserve_server.api.model_config import describe

Open = Callable[[Path], SimpleNamespace]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "told"),
    [
        pytest.param(None, "FORMAT_NHWC", id="without config.pbtxt"),
        pytest.param("max_batch_size: 4", "FORMAT_NHWC", id="where config.pbtxt is silent"),
        pytest.param(
            'max_batch_size: 4 input { name: "image" data_type: TYPE_UINT8 format: FORMAT_NCHW dims: [ 28, 28, 1 ] }',
            "FORMAT_NCHW",
            id="as config.pbtxt says",
        ),
    ],
)
def test_the_format_of_an_image_model_is_returned(
    tmp_path: Path, root: Path, open_catalogue: Open, config: str | None, told: str
) -> None:
    (tmp_path / "digits" / "1").mkdir(parents=True)
    shutil.copy(root / "models" / "mnist-cnn" / "1" / "model.onnx", tmp_path / "digits" / "1")
    if config is not None:
        (tmp_path / "digits" / "config.pbtxt").write_text(config)
    (taken,) = describe(open_catalogue(tmp_path).catalogue.get("digits"), {}).input
    assert pb.ModelInput.Format.Name(taken.format) == told


def test_other_models_than_image_models_have_no_format(doubler_repository: Path, open_catalogue: Any) -> None:
    (taken,) = describe(open_catalogue(doubler_repository).catalogue.get("doubler"), {}).input
    assert taken.format == pb.ModelInput.FORMAT_NONE
