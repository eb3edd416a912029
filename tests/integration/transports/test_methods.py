"""Every method of every service, once, with its right answer."""

import time
import uuid
from collections.abc import Callable
from multiprocessing.shared_memory import SharedMemory
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

import pixelserve
from pixelserve.oip import inference_pb2 as pb
from pixelserve.v1 import classifier_pb2, classifier_pb2_grpc

TIMEOUT_S = 60
OIP = "inference.GRPCInferenceService"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
REFLECTION_VERSIONS = ("v1", "v1alpha")

Send = Callable[[str, Any], Any]


def infers(send: Send, make_request: Any) -> None:
    answer = send("ModelInfer", make_request(rows=2, id="übung"))
    assert (answer.model_name, answer.model_version, answer.id) == ("doubler", "1", "übung")
    assert np.frombuffer(answer.raw_output_contents[0], "<f4").tolist() == list(range(0, 16, 2))


def streams(send: Send, make_request: Any) -> None:
    requests = [make_request(id="0"), make_request("none", id="1"), make_request(id="2")]
    answers = send("ModelStreamInfer", requests)
    assert [answer.infer_response.id for answer in answers] == ["0", "1", "2"]
    assert [answer.error_message.partition(":")[0] for answer in answers] == ["", "NOT_FOUND", ""]
    assert np.frombuffer(answers[2].infer_response.raw_output_contents[0], "<f4").tolist() == [0, 2, 4, 6]


def is_live_and_ready(send: Send, _: Any) -> None:
    assert send("ServerLive", pb.ServerLiveRequest()).live


def is_not_ready(send: Send, _: Any) -> None:
    # One of its models is damaged.
    assert not send("ServerReady", pb.ServerReadyRequest()).ready


def knows_which_models_are_ready(send: Send, _: Any) -> None:
    ready = [send("ModelReady", pb.ModelReadyRequest(name=name)).ready for name in ("doubler", "damaged", "none")]
    assert ready == [True, False, False]


def describes_itself(send: Send, _: Any) -> None:
    metadata = send("ServerMetadata", pb.ServerMetadataRequest())
    assert (metadata.name, metadata.version) == ("pixelserve", pixelserve.__version__)


def describes_a_model(send: Send, _: Any) -> None:
    (tensor,) = send("ModelMetadata", pb.ModelMetadataRequest(name="doubler")).inputs
    assert (tensor.name, tensor.datatype, list(tensor.shape)) == ("values", "FP32", [-1, 4])


def shows_a_configuration(send: Send, _: Any) -> None:
    assert send("ModelConfig", pb.ModelConfigRequest(name="patient")).config.max_batch_size == 2


def counts(send: Send, make_request: Any) -> None:
    def rows() -> int:
        (model,) = send("ModelStatistics", pb.ModelStatisticsRequest(name="free")).model_stats
        return int(model.inference_count)

    inputs = [pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[3, 1])]
    before = rows()
    send("ModelInfer", make_request("free", inputs=inputs, raw=[bytes(12)]))
    # A run is counted just after its answers.
    end_s = time.monotonic() + TIMEOUT_S
    while rows() < before + 3:
        assert time.monotonic() < end_s
    assert rows() == before + 3


def lists_the_repository(send: Send, _: Any) -> None:
    index = send("RepositoryIndex", pb.RepositoryIndexRequest()).models
    assert {(each.name, each.state) for each in index} >= {("doubler", "READY"), ("damaged", "UNAVAILABLE")}


def loads_and_unloads(send: Send, _: Any) -> None:
    def is_ready() -> bool:
        return bool(send("ModelReady", pb.ModelReadyRequest(name="colours")).ready)

    send("RepositoryModelUnload", pb.RepositoryModelUnloadRequest(model_name="colours"))
    assert not is_ready()
    send("RepositoryModelLoad", pb.RepositoryModelLoadRequest(model_name="colours"))
    assert is_ready()


def traces(send: Send, _: Any) -> None:
    assert "trace_rate" in send("TraceSetting", pb.TraceSettingRequest()).settings


def logs(send: Send, _: Any) -> None:
    assert send("LogSettings", pb.LogSettingsRequest()).settings["log_format"].string_param == "json"


def shares_memory(send: Send, _: Any) -> None:
    memory = SharedMemory(f"pixelserve-test-{uuid.uuid4().hex}", create=True, size=64)
    try:
        wanted = {"name": memory.name, "key": f"/{memory.name}", "byte_size": 64}
        send("SystemSharedMemoryRegister", pb.SystemSharedMemoryRegisterRequest(**wanted))
        status = send("SystemSharedMemoryStatus", pb.SystemSharedMemoryStatusRequest(name=memory.name))
        assert status.regions[memory.name].byte_size == 64
        send("SystemSharedMemoryUnregister", pb.SystemSharedMemoryUnregisterRequest(name=memory.name))
        assert memory.name not in send("SystemSharedMemoryStatus", pb.SystemSharedMemoryStatusRequest()).regions
    finally:
        memory.close()
        memory.unlink()


def has_no_cuda_memory(send: Send, _: Any) -> None:
    assert not send("CudaSharedMemoryStatus", pb.CudaSharedMemoryStatusRequest()).regions
    send("CudaSharedMemoryUnregister", pb.CudaSharedMemoryUnregisterRequest())


def refuses_cuda_memory(send: Send, _: Any) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        send("CudaSharedMemoryRegister", pb.CudaSharedMemoryRegisterRequest())
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def classifies(send: Send, _: Any) -> None:
    raw = classifier_pb2.RawPixels(height=1, width=3, channels=1, data=bytes([10, 200, 30]))
    request = classifier_pb2.ClassifyRequest(model="colours", images=[classifier_pb2.Image(raw=raw)])
    assert send("Classify", request).results[0].classes[0].label == "green"


def lists_models(send: Send, _: Any) -> None:
    (version,) = send("ListModels", classifier_pb2.ListModelsRequest(name="colours")).versions
    assert version.takes_images


def gives_figures(send: Send, _: Any) -> None:
    (version,) = send("Figures", classifier_pb2.FiguresRequest(model="colours")).versions
    assert len(version.request_seconds.counts) == len(version.request_seconds.bounds) + 1


def gives_samples(send: Send, _: Any) -> None:
    assert not send("Samples", classifier_pb2.SamplesRequest(model="colours")).pictures


METHODS: dict[str, Callable[[Send, Any], None]] = {
    "ServerLive": is_live_and_ready,
    "ServerReady": is_not_ready,
    "ModelReady": knows_which_models_are_ready,
    "ServerMetadata": describes_itself,
    "ModelMetadata": describes_a_model,
    "ModelInfer": infers,
    "ModelStreamInfer": streams,
    "ModelConfig": shows_a_configuration,
    "ModelStatistics": counts,
    "RepositoryIndex": lists_the_repository,
    "RepositoryModelLoad RepositoryModelUnload": loads_and_unloads,
    "SystemSharedMemoryStatus SystemSharedMemoryRegister SystemSharedMemoryUnregister": shares_memory,
    "CudaSharedMemoryStatus CudaSharedMemoryUnregister": has_no_cuda_memory,
    "CudaSharedMemoryRegister": refuses_cuda_memory,
    "TraceSetting": traces,
    "LogSettings": logs,
    "Classify": classifies,
    "ListModels": lists_models,
    "Samples": gives_samples,
    "Figures": gives_figures,
}


@pytest.fixture(scope="module")
def channel(served: Any) -> grpc.Channel:
    return served.channel()


@pytest.fixture(scope="module")
def send(served: Any, channel: grpc.Channel) -> Send:
    """Calls a method of either service; a list of messages is sent on a stream."""
    oip, classifier = served.stub(), classifier_pb2_grpc.ClassifierStub(channel)

    def call(method: str, message: Any) -> Any:
        stub = getattr(oip if hasattr(oip, method) else classifier, method)
        if isinstance(message, list):
            return list(stub(iter(message), timeout=TIMEOUT_S))
        return stub(message, timeout=TIMEOUT_S)

    return call


def test_every_method_of_the_services_is_called_here() -> None:
    served = [*pb.DESCRIPTOR.services_by_name.values(), *classifier_pb2.DESCRIPTOR.services_by_name.values()]
    assert {method.name for service in served for method in service.methods} == set(" ".join(METHODS).split())


@pytest.mark.parametrize("check", METHODS.values(), ids=METHODS)
@pytest.mark.parametrize("security", ["plain", "tls", "mtls"], indirect=True)
def test_a_method_answers(check: Callable[[Send, Any], None], send: Send, make_request: Any) -> None:
    check(send, make_request)


@pytest.mark.parametrize(("service", "status"), [("", NOT_SERVING), ("doubler", SERVING), ("damaged", NOT_SERVING)])
def test_health_is_checked(channel: grpc.Channel, service: str, status: int) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    assert stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=TIMEOUT_S).status == status


def test_health_is_watched(channel: grpc.Channel, send: Send) -> None:
    """Timeline: 1. a watcher sees SERVING; 2. the model is unloaded, and 3. loaded; 4. the watcher sees both."""
    watch = health_pb2_grpc.HealthStub(channel).Watch(
        health_pb2.HealthCheckRequest(service="colours"), timeout=TIMEOUT_S
    )
    assert next(watch).status == SERVING
    send("RepositoryModelUnload", pb.RepositoryModelUnloadRequest(model_name="colours"))
    assert next(watch).status == NOT_SERVING
    send("RepositoryModelLoad", pb.RepositoryModelLoadRequest(model_name="colours"))
    assert next(watch).status == SERVING
    watch.cancel()


def test_reading_one_watch_holds_up_no_other_call(channel: grpc.Channel, send: Send) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    watches = [stub.Watch(health_pb2.HealthCheckRequest(service="none"), timeout=TIMEOUT_S) for _ in range(100)]
    assert [next(watch).status for watch in watches] == [health_pb2.HealthCheckResponse.SERVICE_UNKNOWN] * 100
    assert send("ServerLive", pb.ServerLiveRequest()).live
    for watch in watches:
        watch.cancel()


@pytest.mark.parametrize("version", REFLECTION_VERSIONS)
def test_reflection_lists_and_describes_the_services(channel: grpc.Channel, version: str) -> None:
    """Both versions of the protocol have the same messages; only the package differs."""
    request = reflection_pb2.ServerReflectionRequest
    reflect = channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request.SerializeToString,
        reflection_pb2.ServerReflectionResponse.FromString,
    )
    asked = [
        request(list_services=""),
        request(file_containing_symbol=OIP),
        request(file_containing_symbol="none.Such"),
    ]
    listed, described, unknown = reflect(iter(asked), timeout=TIMEOUT_S)
    assert {each.name for each in listed.list_services_response.service} == {
        OIP,
        "pixelserve.v1.Classifier",
        "grpc.health.v1.Health",
        *(f"grpc.reflection.{each}.ServerReflection" for each in REFLECTION_VERSIONS),
    }
    assert b"ModelStreamInfer" in b"".join(described.file_descriptor_response.file_descriptor_proto)
    assert unknown.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]


def test_reflection_describes_itself(channel: grpc.Channel) -> None:
    """Clients such as grpcurl ask for the file of each service in the list, and stop where one is missing."""
    request = reflection_pb2.ServerReflectionRequest
    reflect = channel.stream_stream(
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        request.SerializeToString,
        reflection_pb2.ServerReflectionResponse.FromString,
    )
    names = [f"grpc.reflection.{each}.ServerReflection" for each in REFLECTION_VERSIONS]
    answers = list(reflect((request(file_containing_symbol=name) for name in names), timeout=TIMEOUT_S))
    assert [bool(each.file_descriptor_response.file_descriptor_proto) for each in answers] == [True, True]
