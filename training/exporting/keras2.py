"""Converts the configuration of a model saved by Keras 2 to Keras 3, without changing the network.

Keras 2 wrote settings that Keras 3 has dropped and refuses even with their default values: `groups: 1` of a depthwise
convolution (every MobileNet, every model of Teachable Machine), `time_major: false` of an LSTM.
"""

import inspect
from collections.abc import Mapping
from typing import Any

from .keras2_ops import HARD_SIGMOID, OPERATIONS, as_layer

Config = dict[str, Any]

_LIBRARIES = ("keras", "tf_keras", "tensorflow")
_NETWORKS = ("Functional", "Model", "Sequential")
# Settings that Keras 3 does not have, with their neutral values. Layers keep other values, and Keras raises an error.
_CHANGES_NOTHING: Mapping[str, tuple[object, ...]] = {
    "groups": (1,),
    "time_major": (False,),
    "noise_shape": (None,),
    "renorm": (False,),
    "virtual_batch_size": (None,),
    "softmax_robust_masking": (False,),
}
# Relevant to training only, or repeats of an input's shape.
_OF_TRAINING = ("trainable", "rng_type", "query_shape", "key_shape", "value_shape")
_OF_TRAINING_ENDINGS = ("_initializer", "_regularizer", "_constraint")
# Accepted by every layer whose __init__ passes on unknown arguments.
_OF_EVERY_LAYER = ("trainable", "activity_regularizer", "batch_input_shape")
# Keras 3 replaces these settings by the function of the same name, unless the layer names its module.
_WITH_MODULE = ("Attention", "AdditiveAttention")


def translate(model: Config, layers: Any) -> Config:
    """Returns a model's configuration in Keras 3's form.

    Args:
        model: Keras 2's configuration: `class_name` and `config`, of any nesting.
        layers: the module keras.layers.
    """
    return _Translation(layers).entry(model)


class _Translation:
    def __init__(self, layers: Any) -> None:
        self._layers = layers

    def entry(self, entry: Config) -> Config:
        """Returns a layer's or network's entry without its module, so Keras 3 finds the class in its new place."""
        if not _is_of_keras(entry):
            return entry
        name, config = entry["class_name"], entry["config"]
        entry = {key: value for key, value in entry.items() if key not in ("module", "registered_name", "build_config")}
        if name in OPERATIONS:
            return as_layer(entry)
        if name in _NETWORKS:
            return entry | {"config": self._network(config)}
        if name.startswith("Random"):
            return entry | _as_in_prediction(name, config)
        config = {key: self._setting(key, value) for key, value in config.items()}
        layer = getattr(self._layers, name, None)
        entry["config"] = _without_needless(config, layer) if inspect.isclass(layer) else config
        return entry | ({"module": "keras.layers"} if name in _WITH_MODULE else {})

    def _network(self, config: Config | list[Config]) -> Config | list[Config]:
        if isinstance(config, list):  # an early Sequential
            return [self.entry(layer) for layer in config]
        entries = [self.entry(layer) for layer in config["layers"]]
        # A network had a node before its first call.
        nested = {entry["config"]["name"] for entry in entries if entry["class_name"] in _NETWORKS}
        for entry in entries:
            nodes = _references(entry.get("inbound_nodes", []), nested)
            entry["inbound_nodes"] = [_node(node) for node in nodes]
            # Weights are matched by order, so layers may be renamed; Keras 3 allows no "/" in names.
            for named in (entry, entry["config"]):
                if "name" in named:
                    named["name"] = _layer_name(named["name"])
        config = config | {"layers": entries}
        for key in ("input_layers", "output_layers"):
            if key in config:
                tensors = _references(config[key], nested)
                # Keras 2 unpacked a list of one tensor; Keras 3 passes the list to the next layer.
                config[key] = tensors[0] if isinstance(tensors, list) and len(tensors) == 1 else tensors
        return config

    def _setting(self, key: str, value: Any) -> Any:
        if key.endswith("activation") and value == "hard_sigmoid":
            return {"class_name": "function", "config": HARD_SIGMOID, "registered_name": HARD_SIGMOID}
        if key == "axis" and isinstance(value, list) and len(value) == 1:
            return value[0]
        if isinstance(value, list):
            return [self._setting("", item) for item in value]
        if not _is_of_keras(value):
            return value
        if value["class_name"] == "Policy":  # mixed precision instead of a type
            return value["config"]["name"]
        if inspect.isclass(getattr(self._layers, value["class_name"], None)):
            # A nested layer, such as the LSTM of a Bidirectional.
            return self.entry(value) | {"module": "keras.layers"}
        return value


def _is_of_keras(entry: Any) -> bool:
    if not isinstance(entry, dict) or not isinstance(entry.get("config"), dict | list) or "class_name" not in entry:
        return False
    return str(entry.get("module") or "keras").partition(".")[0] in _LIBRARIES


def _as_in_prediction(name: str, config: Config) -> Config:
    """Returns an augmentation layer's configuration for inference, mostly the identity."""
    kept = {key: config[key] for key in ("name", "batch_input_shape") if key in config}
    if name != "RandomCrop":
        return {"class_name": "Identity", "config": kept}
    size = {key: config[key] for key in ("height", "width")}
    return {"class_name": "Resizing", "config": kept | size | {"crop_to_aspect_ratio": True}}


def _without_needless(config: Config, layer: type) -> Config:
    parameters = inspect.signature(layer.__init__).parameters  # type: ignore[misc]
    passes_on = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    known = {*parameters, *(_OF_EVERY_LAYER if passes_on else ())}
    return {key: value for key, value in config.items() if key in known or not _needless(key, value)}


def _needless(key: str, value: object) -> bool:
    if key in _CHANGES_NOTHING:
        return value in _CHANGES_NOTHING[key]
    return key in _OF_TRAINING or key.endswith(_OF_TRAINING_ENDINGS)


def _references(value: Any, nested: set[str]) -> Any:
    """Returns nodes with their tensor references, [layer, node, tensor, …], in Keras 3's form."""
    if isinstance(value, dict):
        return {key: _references(item, nested) for key, item in value.items()}
    if not isinstance(value, list):
        return value
    if _is_reference(value):
        layer, node, *rest = value
        arguments = [{key: _references(item, nested) for key, item in each.items()} for each in rest[1:]]
        return [_layer_name(layer), node - 1 if layer in nested else node, rest[0], *arguments]
    return [_references(item, nested) for item in value]


def _node(inputs: list[Any] | Config) -> Any:
    """Returns a layer call, in Keras 3's form if a keyword argument is a tensor."""
    if isinstance(inputs, dict):
        return inputs
    named = {key: value for entry in inputs for key, value in (entry[3] if len(entry) > 3 else {}).items()}
    if not any(_is_reference(value) for value in named.values()):
        return inputs
    tensors = [_tensor(entry) for entry in inputs]
    return {
        "args": tensors if len(tensors) == 1 else [tensors],
        "kwargs": {key: _tensor(value) if _is_reference(value) else value for key, value in named.items()},
    }


def _tensor(reference: list[Any]) -> Config:
    # Shape and type come from the referenced tensor.
    config = {"shape": [], "dtype": "float32", "keras_history": reference[:3]}
    return {"class_name": "__keras_tensor__", "config": config}


def _is_reference(value: Any) -> bool:
    return isinstance(value, list) and len(value) >= 3 and isinstance(value[0], str) and isinstance(value[1], int)


def _layer_name(name: str) -> str:
    return name.replace("/", "_")
