"""Imports ONNX Runtime without telemetry. All code imports it through this module.

ONNX Runtime's Linux wheels look up a telemetry host every few seconds, send events there, and keep a device id and a
database below ~/.cache. They read the switch only when the library is loaded; setting it later, or calling
`disable_telemetry_events`, leaves the files and the thread.
"""

import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime as ort

__all__ = ["ort"]
