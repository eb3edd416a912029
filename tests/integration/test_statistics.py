"""ModelStatistics and the matching metrics of a real server process."""

import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families

from pixelserve.oip import inference_pb2 as pb
from pixelserve.oip import inference_pb2_grpc

TIMEOUT_S = 30
Stub = inference_pb2_grpc.GRPCInferenceServiceStub


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory, model_writer: Callable[..., Path]) -> Path:
    """`doubler`, with batches of up to 8 rows, and `plain`, whose requests are not merged."""
    path = tmp_path_factory.mktemp("repository")
    for name, batching in (("doubler", "dynamic_batching { }"), ("plain", "")):
        model_writer(path / name / "1" / "model.onnx")
        (path / name / "config.pbtxt").write_text(f"max_batch_size: 8 {batching}")
    return path


@pytest.fixture(scope="module")
def server(start_module_server: Callable[..., Any], repository: Path) -> Any:
    """A server on those models that pads batches to 4 and 8 rows."""
    return start_module_server(repository, "--batch-buckets", "4,8", "--no-limit-batches", "--warmup-s", "60")


@pytest.fixture(scope="module")
def stub(server: Any) -> Iterator[Stub]:
    """The service's methods."""
    with grpc.insecure_channel(server.grpc) as channel:
        yield Stub(channel)


def statistics(stub: Stub, name: str = "", version: str = "") -> list[pb.ModelStatistics]:
    request = pb.ModelStatisticsRequest(name=name, version=version)
    return list(stub.ModelStatistics(request, timeout=TIMEOUT_S).model_stats)


def samples(server: Any, name: str) -> dict[tuple[str, str], float]:
    """Returns a metric's values by model and batch size."""
    with urllib.request.urlopen(server.metrics, timeout=TIMEOUT_S) as page:
        families = list(text_string_to_metric_families(page.read().decode()))
    return {
        (sample.labels["model"], sample.labels.get("batch_size", "")): sample.value
        for family in families
        for sample in family.samples
        if sample.name == name
    }


def test_statistics_and_metrics_tell_the_same_of_what_was_asked(
    server: Any, stub: Stub, make_request: Any, eventually: Any
) -> None:
    (before,) = statistics(stub, "doubler")
    start_ms = time.time_ns() // 10**6
    for rows in (3, 3, 8):
        stub.ModelInfer(make_request("doubler", rows=rows), timeout=TIMEOUT_S)
    # The last answer is sent before it is counted.
    eventually(lambda: statistics(stub, "doubler")[0].execution_count == before.execution_count + 3)
    (stats,) = statistics(stub, "doubler", "1")
    assert stats.inference_count == before.inference_count + 14
    assert start_ms <= stats.last_inference <= time.time_ns() // 10**6
    phases = stats.inference_stats
    assert phases.success.count == before.inference_stats.success.count + 3
    parts = (phases.queue, phases.compute_input, phases.compute_infer, phases.compute_output)
    assert [each.count for each in parts] == [phases.success.count] * 4
    # A request is in the queue, or in its batch.
    assert sum(each.ns for each in parts) == phases.success.ns
    assert samples(server, "nv_inference_count")["doubler", ""] == stats.inference_count
    assert samples(server, "nv_inference_request_duration_us")["doubler", ""] == phases.success.ns // 1000
    assert samples(server, "pixelserve_padding_rows_total")["doubler", ""] == 2
    served = {each.batch_size: each.compute_output.count for each in stats.batch_stats}
    assert (served[3], served[8]) == (2, 1)


def test_the_buckets_measured_at_load_are_in_statistics_and_metrics(server: Any, stub: Stub) -> None:
    (stats,) = statistics(stub, "plain")
    assert (stats.inference_count, stats.execution_count, stats.last_inference) == (0, 0, 0)
    timed = {each.batch_size: each.compute_infer for each in stats.batch_stats}
    assert list(timed) == [4, 8]
    measured = samples(server, "pixelserve_measured_run_seconds")
    for size, infer in timed.items():
        # The metric shows the fastest.
        assert 0 < measured["plain", str(size)] <= infer.ns / infer.count / 1e9


def test_the_batch_limit_and_the_repairs_are_on_the_metrics_page(server: Any) -> None:
    assert samples(server, "pixelserve_batch_limit") == {("doubler", ""): 8, ("plain", ""): 0}
    for name in ("pixelserve_worker_restarts_total", "pixelserve_session_rebuilds_total"):
        assert samples(server, name) == {("doubler", ""): 0, ("plain", ""): 0}


def test_no_name_means_every_model(stub: Stub) -> None:
    assert [(each.name, each.version) for each in statistics(stub)] == [("doubler", "1"), ("plain", "1")]


@pytest.mark.parametrize(
    ("name", "version", "code", "said"),
    [
        ("none", "", "NOT_FOUND", 'no model "none"; this server has doubler, plain'),
        ("doubler", "3", "NOT_FOUND", "doubler has no version 3"),
        ("doubler", "x", "INVALID_ARGUMENT", "expected a positive integer"),
    ],
)
def test_statistics_of_what_is_not_there_are_refused(stub: Stub, name: str, version: str, code: str, said: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        statistics(stub, name, version)
    assert caught.value.code().name == code
    assert said in caught.value.details()
