"""Measured curves for tests of `pixelserve plan`."""

from typing import Any


def curve(**changes: Any) -> dict[str, Any]:
    """Returns what `bench --curve --json` writes of a server whose runs take 1 ms + 2 ms for each image, up to 8."""
    levels = []
    for in_flight, per_run in ((1, 1.0), (2, 1.0), (4, 2.0), (8, 4.0), (16, 8.0), (32, 8.0)):
        run_ms = 1 + 2 * per_run
        # A lone request is also half a millisecond on its way.
        rate_per_s = per_run / (run_ms + (0.5 if in_flight == 1 else 0)) * 1e3
        levels.append(
            {
                "in_flight": in_flight,
                "requests_per_s": rate_per_s,
                "images_per_run": per_run,
                "cpu_ms_per_request": 1.05 * run_ms / per_run,
                "latency_ms": {"mean": in_flight / rate_per_s * 1e3, "p50": 1.0, "p99": 2.0},
            }
        )
    made: dict[str, Any] = {
        "kind": "pixelserve-curve",
        "format": 1,
        "model": "digits",
        "version": "3",
        "method": "/inference.GRPCInferenceService/ModelInfer",
        "images_per_request": 1,
        "sessions": 1,
        "largest_run_images": 8,
        "run_ms_by_images": {"1": 3.0, "8": 17.0},
        "alone_ms": [[0.5, 3.4], [0.5, 3.6]],
        "levels": levels,
        "memory_bytes": 200 << 20,
    }
    return made | changes
