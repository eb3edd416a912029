"""Reads a server's runs from its ModelStatistics."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import grpc

from pixelserve.oip import inference_pb2 as pb

if TYPE_CHECKING:
    from pixelserve.client import ModelVersion

_STATISTICS = "/inference.GRPCInferenceService/ModelStatistics"


class Runs:
    """Reads the runs of a model version."""

    def __init__(
        self,
        channel: grpc.Channel,
        version: "ModelVersion",
        timeout_s: float,
        metadata: Sequence[tuple[str, str]] = (),
    ) -> None:
        self._call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(_STATISTICS)
        self._message = pb.ModelStatisticsRequest(name=version.name, version=version.version).SerializeToString()
        self._timeout_s = timeout_s
        self._metadata = tuple(metadata) or None
        # Runs and their nanoseconds, by batch size.
        self._before: dict[int, tuple[int, int]] = {}

    def since_last(self) -> tuple[float, int]:
        """Returns the mean duration in seconds of runs since the last call, and the batch size with the most images.

        Both are 0 if there were none or the server does not report them.
        """
        found = self.by_size()
        runs = sum(count for count, _ in found.values())
        if not runs:
            return 0.0, 0
        return sum(ns for _, ns in found.values()) / runs / 1e9, max(found, key=lambda size: size * found[size][0])

    def by_size(self) -> dict[int, tuple[int, int]]:
        """Returns the number and total nanoseconds of runs since the last call, by images per run.

        Empty if the server does not report them.
        """
        try:
            answer = self._call(self._message, timeout=self._timeout_s, metadata=self._metadata)
        except grpc.RpcError:
            return {}
        before, self._before = self._before, _sizes(pb.ModelStatisticsResponse.FromString(answer))
        found = {}
        for size, (runs, ns) in self._before.items():
            runs_before, ns_before = before.get(size, (0, 0))
            if runs > runs_before:
                found[size] = runs - runs_before, ns - ns_before
        return found


def _sizes(answer: pb.ModelStatisticsResponse) -> dict[int, tuple[int, int]]:
    sizes = {}
    for model in answer.model_stats:
        for each in model.batch_stats:
            parts = each.compute_input, each.compute_infer, each.compute_output
            sizes[each.batch_size] = each.compute_infer.count, sum(part.ns for part in parts)
    return sizes
