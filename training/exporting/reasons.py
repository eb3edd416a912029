"""Extracts the reason from the long messages of Keras and TensorFlow."""

import re

# Keras prints the message of a layer's exception in bold, between the layer's name and its arguments.
_BOLD = re.compile(r"\x1b\[1m(.*?)\x1b\[0m", re.DOTALL)
# It prints a model's whole configuration around these.
_CAUSE = re.compile(
    r"(?:(?<=Exception encountered: )|Could not locate|Unknown|Unrecognized keyword arguments|Requested the des)"
    r"[^\n]+?(?=\. |$)",
    re.MULTILINE,
)


def reason_of(error: Exception) -> str:
    """Returns the reason in an error's message, or the error's type if it has no message."""
    text = str(error).strip()
    if found := _CAUSE.search(text):
        return found[0].rstrip(".")
    if found := _BOLD.search(text):
        text = found[1].strip()
    lines = text.splitlines() or [type(error).__name__]
    # AutoGraph prepends a traceback to the message.
    return lines[-1 if lines[0].startswith("in user code") else 0].strip().rstrip(".")
