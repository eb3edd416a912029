"""Figures: counters of versions, for the page's charts."""

import time
from collections.abc import Callable

from pixelserve.v1 import classifier_pb2 as pb

from ..errors import NotFound
from ..observe.histogram import Histogram
from ..observe.statistics import VersionStats
from ..repository.catalogue import Catalogue
from ..repository.loaded import LoadedVersion
from .call import Call
from .codec import parse_message
from .statistics import Statistics


class Figures:
    """Handles the method. Thread-safe and stateless."""

    def __init__(
        self, catalogue: Catalogue, statistics: Statistics, is_ready: Callable[[], bool], grpc_port: Callable[[], int]
    ) -> None:
        self._catalogue = catalogue
        self._statistics = statistics
        self._is_ready = is_ready
        self._grpc_port = grpc_port

    def __call__(self, message: bytes, call: Call) -> None:
        """Answers with the figures of every ready version that the caller may see.

        Raises:
            NotFound: a model is named and does not exist.
        """
        request = parse_message(pb.FiguresRequest, message)
        names = [name for name in self._catalogue.names() if call.may_see(name)]
        if request.model and request.model not in names:
            raise NotFound(f'there is no model "{request.model}"; this server has {", ".join(names)}')
        shown = {request.model} if request.model else set(names)
        response = pb.FiguresResponse(read_s=time.monotonic(), ready=self._is_ready(), grpc_port=self._grpc_port())
        response.versions.extend(
            _figures(loaded, self._statistics(loaded.name, loaded.version))
            for loaded in self._catalogue.all_ready()
            if loaded.name in shown
        )
        call.reply(response.SerializeToString())


def _figures(loaded: LoadedVersion, stats: VersionStats) -> pb.VersionFigures:
    with stats.folded():
        figures = pb.VersionFigures(
            model=loaded.name,
            version=str(loaded.version),
            success=stats.success,
            failure=stats.failure,
            rows=stats.rows,
            request_seconds=_histogram(stats.request_seconds),
            queue_seconds=_histogram(stats.queue_seconds),
            batch_rows=_histogram(stats.batch_rows),
        )
    figures.pending = loaded.batcher.waiting
    # Outside the lock that batches wait for, because it sorts new predictions.
    drift = stats.predictions.drift() if stats.predictions else None
    if drift is not None:
        figures.drift.CopyFrom(pb.Drift(classes=drift.classes, confidence=drift.confidence, rows=drift.rows))
    return figures


def _histogram(histogram: Histogram) -> pb.Histogram:
    return pb.Histogram(bounds=histogram.bounds, counts=histogram.counts, sum=histogram.sum)
