"""Distinguishes errors caused by a request's inputs from the runtime's own, and words them for the sender."""

import re

from .providers import PROVIDERS

_NODE = re.compile(r"while running (\w+) node\. Name:'(.*?)' Status Message: (.*)", re.DOTALL)
_DIMENSIONS = re.compile(r"INVALID_ARGUMENT : (Got invalid dimensions for input: .*)", re.DOTALL)
# The runtime's own errors, in any node.
_FAULTS = "|".join(word for provider in PROVIDERS for word in provider.fault_words)
_OURS = re.compile(rf"(?i)alloc|out of memory|\b({_FAULTS})|internal error|not implemented")
# file.h:123 Function or file.h:123 signature(...) condition was false.
_SOURCE = re.compile(r"^\S+\.(?:h|hpp|cc|cpp|cu|cuh):\d+\s+(?:.* was false\.|.*\)(?= )|\S+)\s*", re.DOTALL)
_LONGEST = 300
# The messages of the C++ library's number parsers.
_NOT_A_NUMBER = re.compile(r"sto(d|f|i|l|ll|ul|ull|ld)")


def explain(message: str) -> str | None:
    """Returns why a model cannot compute inputs, for the sender; None if the inputs are not known to be the cause.

    Args:
        message: ONNX Runtime's error of a failed run.
    """
    if _OURS.search(message):
        return None
    if match := _DIMENSIONS.search(message):
        return _sentence("the model", match[1])
    if match := _NODE.search(message):
        operator, name, said = match.groups()
        return _sentence(f"its {operator} node{f' {name}' if name else ''}", said)
    return None


def _sentence(where: str, said: str) -> str:
    text = " ".join(_SOURCE.sub("", said.strip()).split()).rstrip(".")
    text = text.removesuffix(" Please fix either the inputs/outputs or the model").rstrip(".")
    if _NOT_A_NUMBER.fullmatch(text):
        text = "a string is not a number"
    return f"the model cannot compute these inputs; {where} reports: {text[:_LONGEST]}; check their shapes and values"
