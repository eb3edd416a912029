"""Imports OpenVINO without telemetry. All code imports it through this module.

By itself `import openvino` reports to Google Analytics, from a forked process, and so does its `convert_model`: both by
the package openvino-telemetry, which its wheel requires, and which keeps a client id in the user's home. Where that
cannot be imported, OpenVINO uses a stub, so here it never can.
"""

import sys

# None makes `import openvino_telemetry` raise ModuleNotFoundError, whether it is installed or not.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]

import openvino as ov  # noqa: E402  the line above must come first

__all__ = ["ov"]
