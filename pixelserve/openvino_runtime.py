"""Imports OpenVINO without telemetry. All code imports it through this module.

OpenVINO depends on openvino-telemetry, whose conversion tools report each use to Google Analytics and keep a client id
in the user's home. They accept that the package is missing, so here it always is: an import of it fails.
"""

import sys

# None makes `import openvino_telemetry` raise ModuleNotFoundError, whether it is installed or not.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]

import openvino as ov  # noqa: E402  the line above must come first

__all__ = ["ov"]
