"""Explains ONNX Runtime's errors for models that are too new for it, with the remedy."""

import re

_IR = re.compile(r"Unsupported model IR version: (\d+), max supported IR version: (\d+)")
_OPSET = re.compile(r"Opset (\d+) is under development.*for domain (\S+) is till opset (\d+)", re.DOTALL)
_NEWER = "or install a newer onnxruntime"


def most_ir_version(said: str) -> int | None:
    """Returns a runtime's maximum IR version, if it refused a model for that, or None."""
    found = _IR.search(said)
    return int(found[2]) if found else None


def too_new(said: str) -> str | None:
    """Returns the error for a model that is too new for a runtime, or None if that is not the reason."""
    if found := _IR.search(said):
        return (
            f"it has ONNX's IR version {found[1]}, and this ONNX Runtime takes up to {found[2]}; "
            f"`pixelserve export` lowers it, {_NEWER}"
        )
    if found := _OPSET.search(said):
        return (
            f"it has opset {found[1]} of {found[2]}, and this ONNX Runtime takes up to {found[3]}; export it with a "
            f"lower opset (for PyTorch: opset_version={found[3]}), {_NEWER}"
        )
    return None
