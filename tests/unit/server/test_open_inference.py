"""The protocol's handlers, without a transport: deadlines, and answers that fail."""

import dataclasses
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelserve.oip import inference_pb2 as pb
from pixelserve_server.api.admission import Admission
from pixelserve_server.api.codes import StatusCode
from pixelserve_server.api.dispatch import CallGuard, Dispatcher
from pixelserve_server.api.log_settings import LogSettings
from pixelserve_server.api.open_inference import OpenInference
from pixelserve_server.api.trace_settings import TraceSettings
from pixelserve_server.engine.regions import Regions
from pixelserve_server.observe.logs import LogLevel
from pixelserve_server.observe.statistics import VersionStats
from pixelserve_server.repository.catalogue import Catalogue
from pixelserve_server.repository.loader import Loader
from pixelserve_server.repository.manager import RepositoryManager

INFER = "/inference.GRPCInferenceService/ModelInfer"
VALUES = np.ones((1, 4), dtype=np.float32)
HOUR_US = 3600 * 10**6


@dataclass
class Ready:
    is_ready: bool = True


class Service:
    """The service over one loaded repository."""

    def __init__(self, repository: Path, loader: Loader, told: Any) -> None:
        self.logged: list[BaseException] = []
        self.catalogue = Catalogue()
        own_loader = dataclasses.replace(loader, log_failure=self.logged.append)
        assert not RepositoryManager(repository, self.catalogue, own_loader, told).load_all()
        handlers = OpenInference(
            self.catalogue,
            Ready(),
            "1.2.3",
            lambda model, version: VersionStats(),
            LogSettings(LogLevel("info"), "json"),
            TraceSettings(self.catalogue),
            Regions(),
            shared_memory=False,
        ).handlers()
        self._dispatcher = Dispatcher(
            handlers, Admission(10**9), CallGuard(lambda error: str(self.logged.append(error)))
        )

    def infer(self, call: Any, **fields: Any) -> None:
        """Sends a request, and waits until all that was accepted is answered."""
        request = pb.ModelInferRequest(
            model_name="m",
            inputs=[pb.ModelInferRequest.InferInputTensor(name="values", datatype="FP32", shape=VALUES.shape)],
            raw_input_contents=[VALUES.tobytes()],
            **fields,
        )
        self._dispatcher.handle(INFER, request.SerializeToString(), call)
        self.catalogue.drain()


@pytest.fixture
def serve(
    tmp_path: Path, loader: Loader, model_writer: Callable[..., Path], told: Any
) -> Iterator[Callable[..., Service]]:
    """Serves one model, `m`, that doubles unless `write` writes another one to the path that it is given."""
    services: list[Service] = []

    def start(write: Callable[[Path], object] = model_writer) -> Service:
        write(tmp_path / "m" / "1" / "model.onnx")
        services.append(Service(tmp_path, loader, told))
        return services[-1]

    yield start
    for service in services:
        service.catalogue.drain()


def timeout(**choice: int) -> dict[str, pb.InferParameter]:
    return {"timeout": pb.InferParameter(**choice)}


@pytest.mark.parametrize(
    ("deadline_in_s", "parameters", "code"),
    [
        pytest.param(None, {}, None, id="neither"),
        pytest.param(3600, {}, None, id="a deadline that is far off"),
        pytest.param(0, {}, "DEADLINE_EXCEEDED", id="a deadline that has passed"),
        pytest.param(None, timeout(int64_param=HOUR_US), None, id="a timeout that is far off"),
        pytest.param(None, timeout(int64_param=1), "DEADLINE_EXCEEDED", id="a timeout that has passed"),
        pytest.param(None, timeout(uint64_param=1), "DEADLINE_EXCEEDED", id="the same, unsigned"),
        pytest.param(None, timeout(int64_param=2**63 - 1), None, id="the longest timeout"),
        pytest.param(3600, timeout(int64_param=1), "DEADLINE_EXCEEDED", id="a timeout shortens a deadline"),
        pytest.param(0, timeout(int64_param=HOUR_US), "DEADLINE_EXCEEDED", id="a timeout prolongs no deadline"),
        pytest.param(None, timeout(int64_param=0), "INVALID_ARGUMENT", id="a timeout of zero"),
        pytest.param(None, timeout(int64_param=-5), "INVALID_ARGUMENT", id="a negative timeout"),
        pytest.param(None, timeout(double_param=5), "INVALID_ARGUMENT", id="a timeout that is no integer"),
    ],
)
def test_the_earlier_of_deadline_and_timeout_counts(
    serve: Callable[..., Service],
    recorded_call: Callable[..., Any],
    deadline_in_s: float | None,
    parameters: dict[str, pb.InferParameter],
    code: str | None,
) -> None:
    call = recorded_call(None if deadline_in_s is None else time.monotonic() + deadline_in_s)
    serve().infer(call, parameters=parameters)
    assert [status.code.name for status in call.failures] == ([code] if code else [])
    assert len(call.replies) == (0 if code else 1)


def test_a_caller_that_leaves_marks_its_request_as_cancelled(
    serve: Callable[..., Service], recorded_call: Callable[..., Any]
) -> None:
    """Timeline: 1. the batcher is handed a request; 2. the caller leaves before it is queued; 3. it is dropped."""
    service = serve()
    batcher = service.catalogue.get("m").batcher
    call = recorded_call()
    submit = batcher.submit

    def leave_first(request: Any, may_run: bool) -> None:
        call.leave()
        submit(request, may_run)

    batcher.submit = leave_first
    service.infer(call)
    assert [status.code for status in call.failures] == [StatusCode.CANCELLED]
    assert call.replies == []


def test_outputs_that_cannot_be_written_are_answered_as_an_internal_error(
    serve: Callable[..., Service], recorded_call: Callable[..., Any], graph_writer: Callable[..., Path]
) -> None:
    """A model that drops all rows has no row to classify."""

    def write(path: Path) -> None:
        tensor = ("FLOAT", ["N", 4])
        graph_writer(
            path,
            {"values": tensor},
            {"kept": ("FLOAT", ["M", 4])},
            ("Shape", "values", "shape"),
            ("Less", "shape shape", "never"),
            ("Compress", "values never", "kept"),
            axis=0,
        )

    service, call = serve(write), recorded_call()
    asked = pb.ModelInferRequest.InferRequestedOutputTensor(name="kept")
    asked.parameters["classification"].int64_param = 1
    service.infer(call, outputs=[asked])
    (status,) = call.failures
    assert status.code is StatusCode.INTERNAL
    assert call.replies == []
    assert [type(error) for error in service.logged] == [ValueError]
