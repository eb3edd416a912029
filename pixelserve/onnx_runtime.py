"""ONNX Runtime without telemetry: the only way by which the project imports it.

ONNX Runtime's Linux wheels ask the DNS for a telemetry host every few seconds, send events there, and keep a device id
and a database below ~/.cache. They read the switch once, when the library is loaded; setting it later, or calling
`disable_telemetry_events`, leaves the files and the thread.
"""

import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime as ort

__all__ = ["ort"]
