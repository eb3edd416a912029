"""ModelStatistics: Triton's numbers, including the runs timed at load."""

import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pixelserve.oip import inference_pb2 as pb
from pixelserve_server.api.call import Call
from pixelserve_server.api.statistics import ModelStatistics
from pixelserve_server.engine.measuring import WarmupBudget, measure
from pixelserve_server.engine.run import BatchRecord
from pixelserve_server.engine.scores import ScoreReader
from pixelserve_server.engine.tensors import BY_NAME, FREE, TensorSpec
from pixelserve_server.errors import Cancelled, DeadlineExceeded, InvalidRequest, NotFound, Unavailable
from pixelserve_server.observe.predictions import Predictions
from pixelserve_server.observe.statistics import _MOST_PENDING_RUNS, SizeStats, VersionStats

OUTPUT = TensorSpec("probabilities", BY_NAME["FP32"], (FREE, 2), ("no", "yes"))
NOW_NS = 1_700_000_000_123_456_789


class Service:
    """ModelStatistics over loaded models, whose numbers the test writes."""

    def __init__(self, catalogue: Any) -> None:
        self.catalogue = catalogue
        self.stats = {
            (loaded.name, loaded.version): VersionStats(unix_ns=lambda: NOW_NS) for loaded in catalogue.all_ready()
        }
        self._answer = ModelStatistics(catalogue, lambda model, version: self.stats[model, version])

    def ask(self, name: str = "", version: str = "") -> list[pb.ModelStatistics]:
        request = pb.ModelStatisticsRequest(name=name, version=version)
        # As it goes over the wire.
        return list(
            pb.ModelStatisticsResponse.FromString(self._answer(request, Call(None)).SerializeToString()).model_stats
        )

    def sizes(self, name: str) -> dict[int, tuple[tuple[int, int], ...]]:
        """Returns the batch statistics of a model with one version: count and ns of input, infer and output, by size,
        without what was timed at load."""
        (stats,) = self.ask(name)
        curve = self.catalogue.get(name).curve
        timed = dict(zip(curve.sizes, zip(curve.runs, curve.spent_ns, strict=True), strict=True))

        def durations(each: pb.InferBatchStatistics) -> tuple[tuple[int, int], ...]:
            runs, ns = timed.get(each.batch_size, (0, 0))
            infer = (each.compute_infer.count - runs, each.compute_infer.ns - ns)
            return pair(each.compute_input), infer, pair(each.compute_output)

        return {each.batch_size: durations(each) for each in stats.batch_stats}


def pair(duration: pb.StatisticDuration) -> tuple[int, int]:
    return duration.count, duration.ns


def batch(*request_ns: int, rows: int, failed: bool = False) -> BatchRecord:
    """Returns a run whose requests took so long; its phases took 10, 20 and 30 ns of that."""
    done_ns = 1_000_000
    return BatchRecord(
        rows, [done_ns - each for each in request_ns], done_ns - 60, done_ns - 50, done_ns - 30, done_ns, failed=failed
    )


@pytest.fixture
def service(
    tmp_path: Path, model_writer: Callable[..., Path], open_catalogue: Callable[[Path], SimpleNamespace]
) -> Service:
    """Versions 1 and 2 of `pair`, `single` with batches of up to 6 rows, `fixed` without a batch dimension, and
    `broken`, of whose versions 1 and 2 the second cannot be loaded."""
    for version in ("1", "2"):
        model_writer(tmp_path / "pair" / version / "model.onnx")
    (tmp_path / "pair" / "config.pbtxt").write_text("max_batch_size: 2 version_policy { all { } }")
    model_writer(tmp_path / "single" / "1" / "model.onnx")
    (tmp_path / "single" / "config.pbtxt").write_text("max_batch_size: 6 dynamic_batching { }")
    model_writer(tmp_path / "fixed" / "1" / "model.onnx", rows=1)
    model_writer(tmp_path / "broken" / "1" / "model.onnx")
    (tmp_path / "broken" / "2").mkdir()
    (tmp_path / "broken" / "2" / "model.onnx").write_bytes(b"no model")
    (tmp_path / "broken" / "config.pbtxt").write_text("max_batch_size: 2 version_policy { all { } }")
    return Service(open_catalogue(tmp_path).catalogue)


@pytest.mark.parametrize(
    ("name", "version", "found"),
    [
        pytest.param("", "", ["broken/1", "fixed/1", "pair/1", "pair/2", "single/1"], id="no name: all"),
        pytest.param("", "7", ["broken/1", "fixed/1", "pair/1", "pair/2", "single/1"], id="a version without a name"),
        pytest.param("pair", "", ["pair/1", "pair/2"], id="a name: its versions"),
        pytest.param("pair", "2", ["pair/2"], id="a version"),
        pytest.param("broken", "", ["broken/1"], id="only what is ready"),
    ],
)
def test_it_answers_for_a_version_a_model_or_all(service: Service, name: str, version: str, found: list[str]) -> None:
    assert [f"{each.name}/{each.version}" for each in service.ask(name, version)] == found


@pytest.mark.parametrize(
    ("name", "version", "error"),
    [
        ("none", "", NotFound),
        ("pair", "3", NotFound),
        ("broken", "2", Unavailable),
        ("pair", "new", InvalidRequest),
    ],
)
def test_what_is_not_there_is_refused(service: Service, name: str, version: str, error: type[Exception]) -> None:
    with pytest.raises(error, match=version or name):
        service.ask(name, version)


def test_a_version_that_has_done_nothing_has_zeros_beside_the_runs_at_load(service: Service) -> None:
    (stats,) = service.ask("single")
    assert (stats.last_inference, stats.inference_count, stats.execution_count) == (0, 0, 0)
    assert stats.inference_stats.success.count == stats.inference_stats.fail.count == 0
    curve = service.catalogue.get("single").curve
    assert [each.batch_size for each in stats.batch_stats] == [1, 2, 4, 6] == list(curve.sizes)
    assert [pair(each.compute_infer) for each in stats.batch_stats] == list(
        zip(curve.runs, curve.spent_ns, strict=True)
    )
    assert all(each.compute_infer.count >= 1 and each.compute_infer.ns > 0 for each in stats.batch_stats)
    assert all(pair(each.compute_input) == pair(each.compute_output) == (0, 0) for each in stats.batch_stats)


def test_requests_rows_runs_and_phases_add_up(service: Service) -> None:
    stats = service.stats["single", 1]
    stats.on_batch(batch(1000, 2000, rows=5))
    stats.on_batch(batch(4000, rows=1))
    (found,) = service.ask("single")
    assert (found.inference_count, found.execution_count) == (6, 2)
    assert found.last_inference == NOW_NS // 10**6
    phases = found.inference_stats
    assert pair(phases.success) == (3, 7000)
    assert pair(phases.queue) == (3, 7000 - 3 * 60)
    # A request's share of a batch is all of it.
    assert [pair(each) for each in (phases.compute_input, phases.compute_infer, phases.compute_output)] == [
        (3, 30),
        (3, 60),
        (3, 90),
    ]


def test_runs_are_counted_by_the_rows_of_their_requests(service: Service) -> None:
    stats = service.stats["single", 1]
    for record in (batch(99, 99, rows=5), batch(99, rows=5), batch(99, rows=2)):
        stats.on_batch(record)
    nothing = ((0, 0),) * 3
    assert service.sizes("single") == {
        1: nothing,
        2: ((1, 10), (1, 20), (1, 30)),
        4: nothing,
        5: ((2, 20), (2, 40), (2, 60)),
        6: nothing,
    }


def test_a_model_without_a_batch_dimension_has_size_one(service: Service) -> None:
    service.stats["fixed", 1].on_batch(batch(99, rows=1))
    assert service.sizes("fixed") == {1: ((1, 10), (1, 20), (1, 30))}


def test_failures_count_whatever_their_reason_and_with_their_time(service: Service) -> None:
    stats = service.stats["single", 1]
    stats.on_batch(batch(1000, 2000, rows=2, failed=True))
    stats.on_dropped(Cancelled(), 300)
    stats.on_dropped(DeadlineExceeded(), 50)
    (found,) = service.ask("single")
    assert pair(found.inference_stats.fail) == (4, 3350)
    assert pair(found.inference_stats.success) == (0, 0)
    assert (found.inference_count, found.execution_count, found.last_inference) == (0, 0, 0)


def test_a_curve_keeps_how_many_runs_it_timed_and_what_they_took_together() -> None:
    """A run of n rows takes n ticks of a clock, of which the budget has 20; the last size is run all the same."""
    ticks = 0

    def run(size: int) -> None:
        nonlocal ticks
        ticks += size

    budget = WarmupBudget(seconds=20e-9)
    curve = measure(run, (1, 4, 8), budget, every_size=True, clock_ns=lambda: ticks)
    assert curve.times_ns == (1, 4, 8)
    # 1 + 5 ticks for the first; 4 to warm and 2 timed make 18 with the second.
    assert curve.runs == (5, 2, 1)
    assert curve.spent_ns == (5, 8, 8)


def test_no_run_is_lost_or_counted_twice_while_others_come_and_are_read(service: Service) -> None:
    """More than are added up at once, on several threads, with readers between them."""
    stats = service.stats["single", 1]
    runs, threads = 1000, 4

    def add() -> None:
        for _ in range(runs):
            stats.on_batch(batch(1000, 2000, rows=3))
            stats.on_batch(batch(99, rows=1, failed=True))

    seen = []
    with ThreadPoolExecutor(threads) as pool:
        adding = [pool.submit(add) for _ in range(threads)]
        while not all(each.done() for each in adding):
            (found,) = service.ask("single")
            seen.append((found.execution_count, found.inference_count, found.inference_stats.success.count))
    assert seen == sorted(seen)
    # What belongs together is read together.
    assert all((rows, requests) == (3 * count, 2 * count) for count, rows, requests in seen)
    (found,) = service.ask("single")
    assert (found.execution_count, found.inference_count) == (runs * threads, 3 * runs * threads)
    assert pair(found.inference_stats.success) == (2 * runs * threads, 3000 * runs * threads)
    assert pair(found.inference_stats.fail) == (runs * threads, 99 * runs * threads)


def test_predictions_are_counted_with_their_runs() -> None:
    """Apart, each would delay a request of its own."""
    scores = ScoreReader(OUTPUT, "probabilities", "as a test says", declared=True)
    stats = VersionStats(predictions=Predictions(scores, None, 1000))
    for _ in range(_MOST_PENDING_RUNS):
        record = batch(99, rows=1)
        record.outputs = {OUTPUT.name: np.array([[0.25, 0.75]], np.float32)}
        stats.on_batch(record)
    # Read without a fold.
    assert stats.success == _MOST_PENDING_RUNS
    assert stats.predictions is not None
    assert sum(stats.predictions.histograms[0].counts) == _MOST_PENDING_RUNS


def test_runs_are_counted_once_even_if_their_predictions_cannot_be() -> None:
    scores = ScoreReader(OUTPUT, "probabilities", "as a test says", declared=True)
    stats = VersionStats(predictions=Predictions(scores, None, 1000))
    record = batch(99, rows=1)
    # Of three columns, where the version declares two.
    record.outputs = {OUTPUT.name: np.zeros((1, 3), np.float32)}
    stats.on_batch(record)
    with pytest.raises(ValueError, match="reshape"):
        stats.fold()
    stats.fold()
    assert stats.success == 1


def test_runs_of_several_sizes_are_counted_by_size() -> None:
    stats = VersionStats()
    for run in (batch(99, rows=1), batch(80, 70, rows=4), batch(60, rows=1), batch(5, rows=9, failed=True)):
        stats.on_batch(run)
    stats.fold()
    assert stats.sizes == {1: SizeStats(2, 20, 40, 60), 4: SizeStats(1, 10, 20, 30)}
    assert (stats.runs, stats.rows, stats.success, stats.failed_ns) == (3, 6, 4, 5)
    # Each request is charged the whole run.
    assert (stats.request_ns, stats.input_ns, stats.infer_ns, stats.output_ns) == (309, 40, 80, 120)


def test_what_a_run_gave_is_not_kept_until_it_is_counted() -> None:
    stats, record = VersionStats(), batch(99, rows=1)
    record.outputs = {"scores": np.zeros((1, 10), np.float32)}
    outputs = weakref.ref(record.outputs["scores"])
    stats.on_batch(record)
    del record
    assert outputs() is None
