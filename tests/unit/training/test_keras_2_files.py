"""Keras 2 files: weights from Keras 3 with Keras 2's configuration of the same network."""

import json
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from pixelserve_training.errors import SourceError
from pixelserve_training.exporting import keras_files

# Keras saves weights in a way that NumPy will not take much longer.
_KERAS_WARNING = "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings(_KERAS_WARNING)]

Config = dict[str, Any]


def _layer(kind: str, name: str, *sources: Any, **config: Any) -> Config:
    """Returns a layer's entry in a network; each source is a layer's name, or a whole reference to a tensor."""
    references = [[source, 0, 0, {}] if isinstance(source, str) else source for source in sources]
    nodes = [references] if references else []
    return {"class_name": kind, "config": {"name": name, **config}, "name": name, "inbound_nodes": nodes}


def _operation(function: str, name: str, reference: list[Any]) -> Config:
    kind = "SlicingOpLambda" if function.endswith("getitem") else "TFOpLambda"
    return _layer(kind, name, trainable=True, dtype="float32", function=function) | {"inbound_nodes": [reference]}


def _network(name: str, shape: tuple[int, ...], *layers: Config) -> Config:
    first = _layer("InputLayer", "start", batch_input_shape=[None, *shape], dtype="float32", sparse=False, ragged=False)
    config = {"name": name, "layers": [first, *layers], "input_layers": [["start", 0, 0]]}
    return {"class_name": "Functional", "config": config | {"output_layers": [[layers[-1]["name"], 0, 0]]}}


def _replace_in_hdf5(path: Path, config: Config) -> None:
    with h5py.File(path, "r+") as file:
        file.attrs["model_config"] = json.dumps(config)
        file.attrs["keras_version"] = "2.8.0"


def _replace_in_archive(path: Path, config: Config) -> None:
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    entries["config.json"] = json.dumps(config | {"module": "keras.src.engine.functional"}).encode()
    entries["metadata.json"] = json.dumps({"keras_version": "2.13.1"}).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


def _same(twin: Any, config: Config, path: Path) -> None:
    """Checks that a file with the weights of `twin` and this configuration is loaded as a network of equal outputs."""
    twin.save(path)
    (_replace_in_archive if path.suffix == ".keras" else _replace_in_hdf5)(path, config)
    inputs = np.random.default_rng(0).normal(size=(3, *twin.input_shape[1:])).astype(np.float32)
    found, expected = (np.asarray(model(inputs, training=False)) for model in (keras_files.load(path), twin))
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["own.h5", "own.hdf5", "own.keras"])
def test_a_depthwise_convolution_is_read_with_the_groups_that_keras_2_wrote(
    keras: Any, tmp_path: Path, name: str
) -> None:
    layers = keras.layers
    twin = keras.Sequential([keras.Input((6, 6, 3)), layers.DepthwiseConv2D(3), layers.GlobalAveragePooling2D()])
    settings = {"kernel_size": [3, 3], "strides": [1, 1], "groups": 1, "kernel_regularizer": None}
    convolution = _layer("DepthwiseConv2D", "conv", "start", **settings)
    pooled = _layer("GlobalAveragePooling2D", "pool", "conv", data_format="channels_last", keepdims=False)
    _same(twin, _network("model", (6, 6, 3), convolution, pooled), tmp_path / name)


@pytest.mark.parametrize("wrapped", [False, True])
def test_an_lstm_is_read_with_the_time_axis_and_the_sigmoid_of_keras_2(
    keras: Any, tmp_path: Path, wrapped: bool
) -> None:
    def hard_sigmoid(x: Any) -> Any:
        return keras.ops.clip(0.2 * x + 0.5, 0, 1)

    cell = keras.layers.LSTM(4, recurrent_activation=hard_sigmoid)
    twin = keras.Sequential([keras.Input((5, 3)), keras.layers.Bidirectional(cell) if wrapped else cell])
    settings = {"units": 4, "recurrent_activation": "hard_sigmoid", "implementation": 2, "time_major": False}
    lstm = _layer("LSTM", "lstm", "start", **settings)
    outer = _layer("Bidirectional", "both", "start", layer={"class_name": "LSTM", "config": lstm["config"]})
    _same(twin, _network("model", (5, 3), outer if wrapped else lstm), tmp_path / "own.h5")


def test_a_network_in_a_network_behind_tensorflow_functions_is_read(keras: Any, tmp_path: Path) -> None:
    """The transfer learning of the tutorials: augmentation, preprocess_input, a network without its head."""
    layers = keras.layers
    start = keras.Input((8, 8, 3))
    inner = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(4, 3), layers.BatchNormalization()])
    scaled = layers.Rescaling(1 / 127.5, offset=-1)(start)[..., ::-1]
    pooled = layers.GlobalAveragePooling2D()(inner(scaled, training=False))
    twin = keras.Model(start, layers.Dense(2, activation="softmax")(pooled))
    reverse = [{"class_name": "__ellipsis__"}, {"start": None, "stop": None, "step": -1}]
    base = _network(
        *("base", (8, 8, 3)),
        _layer("Conv2D", "Conv/Conv", "start", filters=4, kernel_size=[3, 3], groups=1),
        _layer("BatchNormalization", "Conv/BatchNorm", "Conv/Conv", axis=[3], epsilon=0.001),
    )
    config = _network(
        *("model", (8, 8, 3)),
        _layer("RandomFlip", "flip", "start", mode="horizontal", seed=None, rng_type="stateful"),
        _layer("RandomHeight", "taller", "flip", factor=0.2),
        _operation("math.truediv", "tf.math.truediv", ["taller", 0, 0, {"y": 127.5, "name": None}]),
        _operation("math.subtract", "tf.math.subtract", ["tf.math.truediv", 0, 0, {"y": 1.0, "name": None}]),
        _operation("__operators__.getitem", "tf.getitem", ["tf.math.subtract", 0, 0, {"slice_spec": reverse}]),
        base | {"name": "base", "inbound_nodes": [[["tf.getitem", 0, 0, {"training": False}]]]},
        _layer("GlobalAveragePooling2D", "pool", ["base", 1, 0, {}]),
        _layer("Dense", "dense", "pool", units=2, activation="softmax"),
    )
    _same(twin, config, tmp_path / "own.h5")


def test_functions_of_several_tensors_and_of_a_number_first_are_read(keras: Any, tmp_path: Path) -> None:
    layers, ops = keras.layers, keras.ops
    start = keras.Input((4,))
    hidden = layers.Dense(4)(start)
    twin = keras.Model(start, layers.Dense(2)(ops.concatenate([hidden + start, 1 - hidden], axis=-1)))
    joined = [["tf.add", 0, 0, {"axis": -1}], ["tf.subtract", 0, 0, {"axis": -1}]]
    config = _network(
        *("model", (4,)),
        _layer("Dense", "hidden", "start", units=4),
        _operation("__operators__.add", "tf.add", ["hidden", 0, 0, {"y": ["start", 0, 0], "name": None}]),
        _operation("math.subtract", "tf.subtract", ["_CONSTANT_VALUE", -1, 1.0, {"y": ["hidden", 0, 0]}]),
        _operation("concat", "tf.concat", joined),
        _layer("Dense", "dense", "tf.concat", units=2),
    )
    _same(twin, config, tmp_path / "own.h5")


def test_attention_to_a_tensor_by_name_is_read(keras: Any, tmp_path: Path) -> None:
    start = keras.Input((5, 3))
    twin = keras.Model(start, keras.layers.MultiHeadAttention(2, 4)(start, start))
    shape = [None, 5, 3]
    settings = {"num_heads": 2, "key_dim": 4, "query_shape": shape, "key_shape": shape, "value_shape": shape}
    attention = _layer("MultiHeadAttention", "attention", ["start", 0, 0, {"value": ["start", 0, 0]}], **settings)
    _same(twin, _network("model", (5, 3), attention), tmp_path / "own.h5")


@pytest.mark.parametrize("function", ["io.write_file", "py_function", "math.__doc__", "__operators__.class"])
def test_a_function_that_does_more_than_compute_is_refused(keras: Any, tmp_path: Path, function: str) -> None:
    config = _network("model", (4,), _operation(function, "op", ["start", 0, 0, {}]))
    with pytest.raises(SourceError, match=f"Unknown function tf.{function}"):
        _same(keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]), config, tmp_path / "own.h5")


def test_a_setting_that_keras_3_cannot_follow_is_named(keras: Any, tmp_path: Path) -> None:
    lstm = _layer("LSTM", "lstm", "start", units=4, time_major=True)
    with pytest.raises(SourceError, match=r"time_major.*with the TensorFlow that saved it \(Keras 2\.8\.0\)"):
        _same(
            keras.Sequential([keras.Input((5, 3)), keras.layers.LSTM(4)]),
            _network("model", (5, 3), lstm),
            tmp_path / "own.h5",
        )
