"""The networks of keras.applications as backbones, with their preprocessing inside the graph."""

from pathlib import Path
from typing import Any, Literal

from .. import frameworks
from ..errors import DataError, UsageError
from .sizes import Shape

_Scaling = Literal["inside", "-1..1", "imagenet", "caffe"]

# Keras's name of each network, and what its training did to pixels: `preprocess_input` of its module. "inside": its
# first layers do it.
_NETWORKS: dict[str, tuple[str, _Scaling]] = {
    "mobilenet_v2": ("MobileNetV2", "-1..1"),
    "mobilenet_v3_small": ("MobileNetV3Small", "inside"),
    "mobilenet_v3_large": ("MobileNetV3Large", "inside"),
    "efficientnet_b0": ("EfficientNetB0", "inside"),
    "efficientnet_b1": ("EfficientNetB1", "inside"),
    "efficientnet_v2_b0": ("EfficientNetV2B0", "inside"),
    "resnet50": ("ResNet50", "caffe"),
    "resnet50_v2": ("ResNet50V2", "-1..1"),
    "densenet121": ("DenseNet121", "imagenet"),
    "convnext_tiny": ("ConvNeXtTiny", "inside"),
    "xception": ("Xception", "-1..1"),
    "inception_v3": ("InceptionV3", "-1..1"),
}
NAMES = tuple(_NETWORKS)
"""Their names."""

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_CAFFE_MEAN_BGR = (103.939, 116.779, 123.68)
_IMAGENET, _RANDOM = "imagenet", "random"


def features(name: str, weights: str | None, shape: Shape) -> Any:
    """Returns a network without its classes: levels of 0 to 255 [N, H, W, 3] in, feature maps out.

    Args:
        name: one of `NAMES`.
        weights: a file of this network's weights without its classes, or a run that had it as a backbone; "random";
            None: Keras downloads those of ImageNet.
        shape: the pictures; grey ones are given three times.

    Raises:
        UsageError: the pictures are too small, or the file does not fit.
        DataError: Keras cannot download the weights.
    """
    keras = frameworks.load().keras
    image = keras.Input((*shape[:2], 3), dtype="float32", name="levels")
    title, scaling = _NETWORKS[name]
    network = _made(name, title, None if weights is not None else _IMAGENET, image.shape[1:])
    whole = keras.Model(image, network(_scaled(image, scaling)), name=name)
    if weights not in (None, _RANDOM):
        _load(whole, network, name, Path(weights))
    return whole


def _made(name: str, title: str, weights: str | None, shape: Shape) -> Any:
    make = getattr(frameworks.load().keras.applications, title)
    try:
        return make(include_top=False, weights=weights, input_shape=shape, name=name)
    except ValueError as error:
        raise UsageError(f"--size {shape[0]}x{shape[1]}: {name} cannot be built for it: {error}") from error
    except Exception as error:  # Keras raises a bare Exception if a download fails
        raise DataError(
            f"Keras cannot download the weights of {name}; download them elsewhere and give the file with --weights, "
            f"or put it where Keras looks: models/ in ~/.keras or KERAS_HOME"
        ) from error


def _scaled(image: Any, scaling: _Scaling) -> Any:
    layers = frameworks.load().keras.layers
    if scaling == "-1..1":
        return layers.Rescaling(1 / 127.5, offset=-1.0)(image)
    if scaling == "imagenet":
        mean, variance = [255 * value for value in _MEAN], [(255 * value) ** 2 for value in _STD]
        return layers.Normalization(mean=mean, variance=variance)(image)
    if scaling == "caffe":
        return layers.Normalization(mean=list(_CAFFE_MEAN_BGR), variance=[1.0] * 3)(image[..., ::-1])
    return image


def _load(whole: Any, network: Any, name: str, path: Path) -> None:
    keras = frameworks.load().keras
    path = path / "model.keras" if (path / "model.keras").is_file() else path
    try:
        if path.suffix == ".keras":
            loaded = keras.saving.load_model(path, compile=False)
            inner = [layer for layer in loaded.layers if isinstance(layer, keras.Model)]
            whole.set_weights((inner[0] if inner else loaded).get_weights())
        else:
            network.load_weights(path)
    except Exception as error:  # Keras and h5py raise half a dozen errors for weights that do not fit
        raise UsageError(
            f"--weights {path}: not the weights of {name} without its classes: {error}; give a run with this "
            f"backbone, or a file of Keras's for include_top=False"
        ) from error
