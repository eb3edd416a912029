"""Converts FOLDER/model.keras to FOLDER/model.onnx with Keras on JAX: on_jax.py OPSET FOLDER...

A script for the environment that holds JAX; PixelServe is not installed there. Its last line of output is the versions
of the libraries, as JSON.
"""

import json
import platform
import sys
from importlib import metadata
from pathlib import Path


def main(opset: int, folders: list[Path]) -> None:
    """Converts each folder's model, and prints the versions."""
    import jax
    import keras

    for folder in folders:
        model = keras.saving.load_model(folder / "model.keras", compile=False)
        # Keras exports only models that were called; a trace is a call without the computation.
        sizes = tuple(size or 1 for size in model.inputs[0].shape)
        jax.eval_shape(model, jax.ShapeDtypeStruct(sizes, model.inputs[0].dtype))
        model.export(folder / "model.onnx", format="onnx", opset_version=opset, verbose=False)
    libraries = ("jax", "jax2onnx", "keras", "numpy", "onnx")
    versions = {library: metadata.version(library) for library in libraries}
    print(json.dumps({"python": platform.python_version(), **versions}))


if __name__ == "__main__":
    main(int(sys.argv[1]), [Path(folder) for folder in sys.argv[2:]])
