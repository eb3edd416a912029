"""Identifies files that cannot be exported, and how to get a model that can."""

from pathlib import Path

from ..errors import SourceError

_EXPECTED = (
    "expected a run's folder, a .keras, .h5 or .onnx file, or a SavedModel folder (one that holds saved_model.pb)"
)

_LFS_POINTER = b"version https://git-lfs.github.com/"

_TORCH = (
    "PyTorch model; load it in Python, then torch.onnx.export(model.eval(), (example,), 'model.onnx', dynamo=True, "
    "dynamic_shapes=({0: 'batch'},)), and export model.onnx"
)
_PICKLE = (
    "pickled Python object, which is never loaded because that runs code; load it in Python, write a scikit-learn "
    "model with skl2onnx.to_onnx(model, X[:1]), and export that .onnx file"
)
_ARCHIVE = "archive; unpack it and export the model in it"
# By suffix.
_BY_SUFFIX = {
    **dict.fromkeys((".pt", ".pth", ".ckpt", ".bin"), _TORCH),
    ".safetensors": "file of weights without a model; load it in the library that wrote it, and write an .onnx file "
    "there (for transformers: optimum-cli export onnx --model FOLDER OUT)",
    **dict.fromkeys((".pkl", ".pickle", ".joblib"), _PICKLE),
    ".tflite": "TensorFlow Lite model; convert it: python -m tf2onnx.convert --tflite MODEL.tflite --output model.onnx",
    ".pb": "TensorFlow graph; for a SavedModel, give the folder that holds saved_model.pb; convert a frozen graph with "
    "python -m tf2onnx.convert --graphdef GRAPH.pb --inputs NAME:0 --outputs NAME:0 --output model.onnx",
    ".ort": "model in ONNX Runtime's own format; export the original .onnx file",
    **dict.fromkeys((".engine", ".plan", ".trt"), "TensorRT engine; export the original .onnx file"),
    ".mlmodel": "Core ML model; export the original to .onnx in the library that trained it",
    ".cbm": "CatBoost model; write it with model.save_model('model.onnx', format='onnx')",
    **dict.fromkeys((".zip", ".tar", ".gz", ".tgz", ".xz", ".7z"), _ARCHIVE),
}
# By magic bytes, with their offset.
_BY_BYTES = (
    (0, _LFS_POINTER, "Git LFS pointer instead of the model; fetch that first: git lfs pull"),
    (4, b"TFL3", _BY_SUFFIX[".tflite"]),
    (0, b"\x89HDF", "HDF5 file; if it is a Keras model, rename it to end in .h5"),
    (
        0,
        b"PK\x03\x04",
        "zip archive, like .keras and PyTorch's files; give it its original name",
    ),
    (0, b"\x1f\x8b", _ARCHIVE),
    (0, b"\x80\x02", _PICKLE),
    (0, b"\x80\x03", _PICKLE),
    (0, b"\x80\x04", _PICKLE),
    (0, b"\x80\x05", _PICKLE),
    (0, b"<", "web page or XML text; download the file itself"),
)
_LONGEST = 64


def is_lfs_pointer(path: Path) -> bool:
    """Returns whether a file is a Git LFS pointer."""
    with path.open("rb") as file:
        return file.read(len(_LFS_POINTER)) == _LFS_POINTER


def named_by_content(content: bytes) -> str:
    """Returns the format of a file with this content and what to do; empty if unknown."""
    if not content:
        return "an empty file; copy or export it again"
    what = next((what for at, mark, what in _BY_BYTES if content[at : at + len(mark)] == mark), "")
    return _article(what) if what else ""


def refusal(path: Path) -> SourceError:
    """Returns the error for a file or folder that cannot be exported."""
    if path.is_dir():
        return SourceError(f"{path}: {_folder(path)}")
    if path.suffix.lower() in _BY_SUFFIX:
        return SourceError(f"{path}: {_article(_BY_SUFFIX[path.suffix.lower()])}")
    with path.open("rb") as file:
        what = named_by_content(file.read(_LONGEST))
    return SourceError(f"{path}: {what}" if what else f"{path}: not a model that can be exported; {_EXPECTED}")


def _folder(path: Path) -> str:
    if (path / "config.pbtxt").is_file():
        return (
            f"already a model of a repository; serve it directly: pixelserve serve --model-repository {path.parent} "
            f"(pixelserve doctor {path.parent} reports what is missing)"
        )
    models = sorted(each for each in path.iterdir() if each.suffix.lower() in (".onnx", ".keras", ".h5"))
    if models:
        return f"a folder; give the model in it: {' or '.join(map(str, models[:3]))}"
    if ((path / "config.json").is_file() and any(path.glob("*.safetensors"))) or (path / "pytorch_model.bin").is_file():
        return f"a transformers folder; write an .onnx file first: optimum-cli export onnx --model {path} OUT"
    return f"not a model that can be exported; {_EXPECTED}"


def _article(what: str) -> str:
    return f"{'an' if what[0].lower() in 'aeiou' else 'a'} {what}"
