"""What ONNX Runtime says of a model that was made for a newer one, in plain words and with what to do."""

import re

_IR = re.compile(r"Unsupported model IR version: (\d+), max supported IR version: (\d+)")
_OPSET = re.compile(r"Opset (\d+) is under development.*for domain (\S+) is till opset (\d+)", re.DOTALL)
_NEWER = "or install a newer onnxruntime"


def most_ir_version(said: str) -> int | None:
    """Returns the newest IR version that a runtime takes, if it refused a model for that; None: it did not."""
    found = _IR.search(said)
    return int(found[2]) if found else None


def too_new(said: str) -> str | None:
    """Returns why a runtime refused a model, if it is too new for it; None: there was another reason."""
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
