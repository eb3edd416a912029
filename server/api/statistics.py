"""ModelStatistics: counters of model versions since they were loaded (docs/statistics.md)."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from pixelserve.oip import inference_pb2 as pb

from ..engine.curve import LatencyCurve
from ..observe.statistics import SizeStats, VersionStats
from ..repository.catalogue import Catalogue
from ..repository.loaded import LoadedVersion
from .call import Call

Statistics = Callable[[str, int], VersionStats]
"""Returns the statistics of a loaded version, by model name and number."""


class ModelStatistics:
    """Answers ModelStatistics."""

    def __init__(self, catalogue: Catalogue, statistics: Statistics) -> None:
        """`statistics` returns a version's counters."""
        self._catalogue = catalogue
        self._statistics = statistics

    def __call__(self, request: pb.ModelStatisticsRequest, call: Call) -> pb.ModelStatisticsResponse:
        """Returns the statistics of a version, of a model's ready versions, or of all that the caller may see.

        Raises:
            NotFound: no such model or version, or no version of the model is ready.
            Unavailable: the version exists and failed to load.
            InvalidRequest: the version is not a positive integer.
        """
        return pb.ModelStatisticsResponse(
            model_stats=[
                _statistics(loaded, self._statistics(loaded.name, loaded.version))
                for loaded in self._asked(request)
                if call.may_see(loaded.name)
            ]
        )

    def _asked(self, request: pb.ModelStatisticsRequest) -> list[LoadedVersion]:
        if not request.name:
            return self._catalogue.all_ready()
        loaded = self._catalogue.get(request.name, request.version)
        return [loaded] if request.version else self._catalogue.ready_versions(request.name)


def _statistics(loaded: LoadedVersion, stats: VersionStats) -> pb.ModelStatistics:
    # Batches wait for this lock, so slow work is done without it.
    with stats.folded():
        message = pb.ModelStatistics(
            name=loaded.name,
            version=str(loaded.version),
            last_inference=stats.last_run_unix_ns // 1_000_000,
            inference_count=stats.rows,
            execution_count=stats.runs,
            inference_stats=pb.InferStatistics(
                success=_duration(stats.success, stats.request_ns),
                fail=_duration(sum(stats.failure.values()), stats.failed_ns),
                queue=_duration(stats.success, stats.queue_ns),
                compute_input=_duration(stats.success, stats.input_ns),
                compute_infer=_duration(stats.success, stats.infer_ns),
                compute_output=_duration(stats.success, stats.output_ns),
            ),
        )
        sizes = {rows: replace(size) for rows, size in stats.sizes.items()}
    message.batch_stats.extend(_batch_statistics(sizes, loaded.curve))
    return message


def _batch_statistics(sizes: Mapping[int, SizeStats], curve: LatencyCurve) -> Iterator[pb.InferBatchStatistics]:
    """Yields the runs of each batch size, smallest first: those of requests, and those timed at load."""
    timed = {size: (runs, ns) for size, runs, ns in zip(curve.sizes, curve.runs, curve.spent_ns, strict=False)}
    for rows in sorted(sizes.keys() | timed.keys()):
        size = sizes.get(rows, SizeStats())
        timed_runs, timed_ns = timed.get(rows, (0, 0))
        yield pb.InferBatchStatistics(
            batch_size=rows,
            compute_input=_duration(size.runs, size.input_ns),
            compute_infer=_duration(size.runs + timed_runs, size.infer_ns + timed_ns),
            compute_output=_duration(size.runs, size.output_ns),
        )


def _duration(count: int, ns: int) -> pb.StatisticDuration:
    return pb.StatisticDuration(count=count, ns=ns)
