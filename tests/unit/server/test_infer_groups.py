"""ModelInfer calls that arrive together, or run in one batch: each behaves as if alone."""

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pixelserve.oip import inference_pb2 as pb
from pixelserve_server.api.admission import Admission, FailureCounts
from pixelserve_server.api.call_observer import CallObserver
from pixelserve_server.api.codec import SMALL_BYTES
from pixelserve_server.api.dispatch import CallGuard, Dispatcher
from pixelserve_server.api.infer import ModelInfer
from pixelserve_server.engine.policy import BatchingPolicy, QueuePolicy
from pixelserve_server.engine.regions import Regions
from pixelserve_server.engine.request import ComputedBatch, Request
from pixelserve_server.engine.tensors import BY_NAME, FREE, TensorSpec
from pixelserve_server.errors import NotFound, QueueFull, RequestError, Unloading
from pixelserve_server.observe.access_log import AccessLog
from pixelserve_server.repository.config import ModelConfig

INFER = "/inference.GRPCInferenceService/ModelInfer"
LATER_S = 10**9
"""By `time.monotonic()`, which counts from the machine's start."""
FP32 = BY_NAME["FP32"]


class FakeBatcher:
    """Keeps requests submitted together until they are computed in one run, which negates them."""

    def __init__(self) -> None:
        self.groups: list[list[Request]] = []
        self.refuse: Callable[[Request], RequestError | None] = lambda request: None
        self.failures: list[BaseException] = []

    def submit(self, request: Request, may_run: bool = False) -> None:
        if (error := self.refuse(request)) is not None:
            raise error
        self.groups.append([request])

    def submit_all(self, requests: Sequence[Request]) -> list[tuple[Request, RequestError]]:
        refused = {request: error for request in requests if (error := self.refuse(request)) is not None}
        self.groups.append([request for request in requests if request not in refused])
        return list(refused.items())

    def run(self) -> None:
        requests = [request for group in self.groups for request in group]
        self.groups.clear()
        if requests:
            x = np.concatenate([request.inputs["x"] for request in requests])
            batch = ComputedBatch({"y": -x}, len(x), is_alone=len(requests) == 1)
            requests[0].succeed_all(requests, batch, lambda error: str(self.failures.append(error)))


class Catalogue:
    """Models `m` and `n`, which share nothing."""

    def __init__(self) -> None:
        self.generation = 1
        self.loaded = {name: self.version(name, 1) for name in ("m", "n")}

    def version(self, name: str, number: int) -> Any:
        tensors = [(TensorSpec(tensor, FP32, (FREE, 1)),) for tensor in ("x", "y")]
        config = ModelConfig(name, BatchingPolicy(8, True, QueuePolicy(16)), *tensors)
        return SimpleNamespace(name=name, version=number, config=config, batcher=FakeBatcher(), provider="fake")

    def replace(self, name: str) -> Any:
        """Puts the next version into a model's place."""
        self.loaded[name] = self.version(name, self.loaded[name].version + 1)
        self.generation += 1
        return self.loaded[name]

    def get(self, name: str, version: str = "") -> Any:
        if name not in self.loaded:
            raise NotFound(f'there is no model "{name}"')
        return self.loaded[name]


class Lines(AccessLog):
    """Keeps the requests' ids instead of writing lines."""

    def __init__(self, per_s: float) -> None:
        super().__init__(None, per_s)
        self.ids: list[str] = []

    def write(self, call: Any, trace_id: str) -> None:
        self.ids.append(call.request_id)


class Server:
    """A dispatcher of ModelInfer, with everything that looks at calls."""

    def __init__(self, make_call: Callable[..., Any], lines_per_s: float = 0) -> None:
        self.catalogue = Catalogue()
        self.admission, self.failure_counts = Admission(100_000), FailureCounts()
        self.log: list[BaseException] = []
        self.lines = Lines(lines_per_s)
        observer = CallObserver(self.lines, None, self.log.append)
        guard = CallGuard(lambda error: str(self.log.append(error)))
        infer = ModelInfer(self.catalogue, Regions())
        self.dispatcher = Dispatcher({INFER: infer}, self.admission, guard, self.failure_counts, observer)
        self._make_call = make_call

    @property
    def batcher(self) -> FakeBatcher:
        return self.catalogue.loaded["m"].batcher

    def send(self, *messages: bytes) -> list[Any]:
        """Sends messages together; returns their calls."""
        calls = [self._make_call() for _ in messages]
        self.dispatcher.handle_all([(INFER, *each) for each in zip(messages, calls, strict=True)])
        return calls

    def learn(self, *messages: bytes) -> None:
        """Has the heads of messages known."""
        self.send(*messages)
        self.run()
        self.admission.replies.clear()

    def run(self) -> None:
        for loaded in self.catalogue.loaded.values():
            loaded.batcher.run()

    def is_quiet(self) -> bool:
        """Returns whether nothing is unanswered."""
        return not self.admission._open and not self.admission._bytes


@pytest.fixture
def server(recorded_call: Callable[..., Any]) -> Server:
    """A server without an access log."""
    return Server(recorded_call)


def request(value: float, model: str = "m", request_id: str = "", **fields: Any) -> bytes:
    """Returns a request of one row with one number."""
    raw = np.float32(value).tobytes()
    message = pb.ModelInferRequest(model_name=model, id=request_id, raw_input_contents=[raw], **fields)
    message.inputs.add(name="x", datatype="FP32", shape=[1, 1])
    return message.SerializeToString()


def value(call: Any) -> tuple[str, float]:
    """Returns the id and the number that a call was answered with, once."""
    assert call.failures == []
    (reply,) = call.replies
    response = pb.ModelInferResponse.FromString(reply)
    return response.id, np.frombuffer(response.raw_output_contents[0], np.float32).item()


def code(call: Any) -> str:
    """Returns the status that a call was answered with, once."""
    assert call.replies == []
    (status,) = call.failures
    return str(status.code.name)


def test_requests_of_one_version_are_submitted_at_once_in_their_order(server: Server) -> None:
    server.learn(request(0))
    calls = server.send(*(request(number, request_id=str(number)) for number in range(1, 5)))
    (group,) = server.batcher.groups
    assert [each.inputs["x"].item() for each in group] == [1, 2, 3, 4]
    server.run()
    assert [value(call) for call in calls] == [(str(number), -number) for number in range(1, 5)]
    assert server.admission.replies == {INFER: 4}
    assert server.is_quiet()


def test_requests_of_several_versions_are_submitted_to_each_in_their_order(server: Server) -> None:
    server.learn(request(0), request(0, "n"))
    calls = server.send(request(1), request(2, "n"), request(3), request(4, "n"))
    for model, numbers in (("m", [1, 3]), ("n", [2, 4])):
        (group,) = server.catalogue.loaded[model].batcher.groups
        assert [each.inputs["x"].item() for each in group] == numbers
    server.run()
    assert [value(call)[1] for call in calls] == [-1, -2, -3, -4]


def test_a_lone_call_may_be_computed_on_its_thread_and_those_of_several_may_not(
    server: Server, recorded_call: Callable[..., Any]
) -> None:
    asked: list[bool] = []
    server.batcher.submit = lambda request, may_run=False: asked.append(may_run)  # type: ignore[method-assign]
    server.batcher.submit_all = lambda requests: asked.append(False) or []  # type: ignore[func-returns-value,method-assign]
    for count in (1, 2):
        calls = [recorded_call(may_compute=True) for _ in range(count)]
        server.dispatcher.handle_all([(INFER, request(1), call) for call in calls])
    assert asked[0]
    assert not any(asked[1:])


@pytest.mark.parametrize(
    ("note", "groups"), [("new", [[1, 2, 3, 4]]), ("n" * SMALL_BYTES, [[1], [2, 3], [4]])], ids=["small", "large"]
)
def test_requests_do_not_wait_until_a_large_one_behind_them_is_parsed(
    server: Server, note: str, groups: list[list[int]]
) -> None:
    server.learn(request(0))
    fields = {"parameters": {"note": pb.InferParameter(string_param=note)}}
    calls = server.send(request(1), request(2, **fields), request(3), request(4, **fields))
    assert [[each.inputs["x"].item() for each in group] for group in server.batcher.groups] == groups
    server.run()
    assert [value(call)[1] for call in calls] == [-1, -2, -3, -4]


@pytest.mark.parametrize("bad", [b"\xff", request(1, "nope"), request(1)[:-1], request(1) + b"\x00"], ids=str)
def test_a_request_that_is_wrong_fails_alone(server: Server, bad: bytes) -> None:
    server.learn(request(0))
    calls = server.send(request(1), bad, request(3))
    server.run()
    assert code(calls[1]) in ("INVALID_ARGUMENT", "NOT_FOUND")
    assert [value(call)[1] for call in (calls[0], calls[2])] == [-1, -3]
    assert sum(server.failure_counts.read().values()) == 1
    assert server.is_quiet()
    assert server.log == []


def test_an_unexpected_error_costs_its_caller_only(
    server: Server, recorded_call: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    server.learn(request(0))
    calls = [recorded_call() for _ in range(3)]

    def fail(_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(calls[1], "on_cancel", fail)
    server.dispatcher.handle_all([(INFER, request(number), call) for number, call in enumerate(calls)])
    server.run()
    assert code(calls[1]) == "INTERNAL"
    assert [value(call)[1] for call in (calls[0], calls[2])] == [0, -2]
    assert server.is_quiet()


def test_those_that_a_full_queue_refuses_fail_and_the_others_do_not(server: Server) -> None:
    server.learn(request(0))
    server.batcher.refuse = lambda request: QueueFull("full") if request.inputs["x"].item() in (2, 4) else None
    calls = server.send(*(request(number) for number in range(1, 5)))
    assert [code(calls[at]) for at in (1, 3)] == ["RESOURCE_EXHAUSTED"] * 2
    # Nothing of a call that has failed keeps it in memory.
    assert [call.subject for call in (calls[1], calls[3])] == [None, None]
    server.run()
    assert [value(calls[at])[1] for at in (0, 2)] == [-1, -3]
    assert server.failure_counts.read() == {(INFER, "RESOURCE_EXHAUSTED", "queue_full"): 2}
    assert server.is_quiet()


def test_memory_for_typed_contents_is_refused_beside_other_calls_where_it_has_no_room(server: Server) -> None:
    """Timeline: 1. a request waits; 2. one comes that has room as it is, and not as an array."""
    (waiting,) = server.send(request(1))
    message = pb.ModelInferRequest(model_name="m")
    message.inputs.add(name="x", datatype="FP32", shape=[20_000, 1]).contents.fp32_contents.extend([0] * 20_000)
    (typed,) = server.send(message.SerializeToString())
    assert code(typed) == "RESOURCE_EXHAUSTED"
    server.run()
    assert value(waiting)[1] == -1
    assert server.is_quiet()


def test_a_batcher_that_breaks_costs_the_requests_that_it_was_given(server: Server) -> None:
    server.learn(request(0), request(0, "n"))

    def fail(requests: Any) -> Any:
        raise ValueError

    server.batcher.submit_all = fail  # type: ignore[method-assign]
    calls = server.send(request(1), request(2, "n"), request(3))
    server.run()
    assert [code(calls[at]) for at in (0, 2)] == ["INTERNAL"] * 2
    assert value(calls[1])[1] == -2
    assert server.is_quiet()


def test_requests_whose_version_leaves_go_to_what_takes_its_place(server: Server) -> None:
    """1. Requests are looked up. 2. Their version is replaced before they are queued."""
    server.learn(request(0))
    leaving = server.batcher

    def leave(_: Request) -> RequestError:
        if server.batcher is leaving:
            server.catalogue.replace("m")
        return Unloading("gone")

    leaving.refuse = leave
    calls = server.send(request(1), request(2), request(3))
    server.run()
    assert [value(call)[1] for call in calls] == [-1, -2, -3]
    assert {pb.ModelInferResponse.FromString(call.replies[0]).model_version for call in calls} == {"2"}
    assert server.admission.replies == {INFER: 3}
    assert server.is_quiet()


def test_requests_whose_version_leaves_without_a_successor_get_an_error(server: Server) -> None:
    server.learn(request(0))
    server.batcher.refuse = lambda _: Unloading("gone")
    calls = server.send(request(1), request(2))
    assert [code(call) for call in calls] == ["UNAVAILABLE"] * 2
    assert server.is_quiet()


def test_a_caller_that_leaves_cancels_its_own_request(server: Server) -> None:
    server.learn(request(0))
    calls = server.send(request(1), request(2), request(3))
    calls[1].leave()
    (group,) = server.batcher.groups
    assert [each.cancelled for each in group] == [False, True, False]


def test_deadlines_are_each_calls_own(server: Server, recorded_call: Callable[..., Any]) -> None:
    server.learn(request(0))
    calls = [recorded_call(deadline_s) for deadline_s in (None, LATER_S, LATER_S + 1)]
    server.dispatcher.handle_all([(INFER, request(1), call) for call in calls])
    (group,) = server.batcher.groups
    assert [each.deadline_ns for each in group] == [None, LATER_S * 10**9, (LATER_S + 1) * 10**9]


def test_a_caller_that_cannot_be_answered_strands_no_other_and_counts_as_answered(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.learn(request(0))
    calls = server.send(request(1), request(2), request(3))

    def fail(_: bytes) -> None:
        raise OSError

    monkeypatch.setattr(calls[1], "send", fail)
    server.run()
    assert [value(calls[at])[1] for at in (0, 2)] == [-1, -3]
    assert [type(error) for error in server.batcher.failures] == [OSError]
    assert server.is_quiet()


def test_a_call_that_was_answered_before_its_run_ended_is_not_answered_again(server: Server) -> None:
    server.learn(request(0))
    calls = server.send(request(1), request(2))
    assert server.admission.drain(0) == 2
    server.run()
    assert [code(call) for call in calls] == ["UNAVAILABLE"] * 2
    assert server.admission.replies == {}
    assert server.is_quiet()


def test_the_access_log_receives_as_many_calls_as_it_samples(recorded_call: Callable[..., Any]) -> None:
    server = Server(recorded_call, lines_per_s=3)
    server.send(*(request(number, request_id=str(number)) for number in range(5)))
    server.run()
    assert server.lines.ids == ["0", "1", "2"]
    assert server.admission.replies == {INFER: 5}
    assert server.is_quiet()


def test_timings_are_returned_on_request(server: Server) -> None:
    timings = {"parameters": {"pixelserve_timings": pb.InferParameter(bool_param=True)}}
    calls = server.send(request(1), request(2, **timings), request(3))
    server.run()
    assert [bool(call.trailing) for call in calls] == [False, True, False]
    assert [value(call)[1] for call in calls] == [-1, -2, -3]


def test_outputs_that_cannot_be_written_fail_each_request_and_are_logged(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.learn(request(0))
    calls = server.send(request(1), request(2))
    monkeypatch.setattr(ComputedBatch, "__init__", lambda self, *_, **__: vars(self).update(outputs={}, is_by_row=True))
    monkeypatch.setattr(ComputedBatch, "encoded", None, raising=False)
    server.run()
    assert [code(call) for call in calls] == ["INTERNAL"] * 2
    assert [type(error) for error in server.batcher.failures] == [KeyError] * 2
    assert server.is_quiet()


@pytest.mark.parametrize("places", [(0,), (1,), (2,), (0, 2, 4)], ids=str)
def test_requests_of_another_kind_in_the_same_run_get_their_rows(server: Server, places: Sequence[int]) -> None:
    """Classify's requests share runs with those of ModelInfer."""
    server.learn(request(0))
    calls = server.send(request(1), request(2))
    answers: list[Any] = []
    for at in places:
        other = Request({"x": np.array([[7.0 + at]], np.float32)}, 1, answers.append)
        server.batcher.groups[0].insert(at, other)
    server.run()
    assert [value(call)[1] for call in calls] == [-1, -2]
    assert [answer.outputs["y"].item() for answer in answers] == [-7.0 - at for at in places]
    assert server.batcher.failures == []


def test_requests_of_several_heads_in_the_same_run_get_their_rows(server: Server) -> None:
    sparse = {"outputs": [pb.ModelInferRequest.InferRequestedOutputTensor(name="y")]}
    sparse["outputs"][0].parameters["classification"].int64_param = 1
    messages = [request(1), request(2, **sparse), request(3), request(4)]
    for _ in range(2):
        calls = server.send(*messages)
        server.run()
        assert [value(calls[at])[1] for at in (0, 2, 3)] == [-1, -3, -4]
        (output,) = pb.ModelInferResponse.FromString(calls[1].replies[0]).raw_output_contents
        assert output[4:] == b"-2.000000:0"


def test_a_call_whose_deadline_has_passed_is_refused_unread_and_the_others_are_not(
    server: Server, recorded_call: Callable[..., Any]
) -> None:
    server.learn(request(0))
    calls = [recorded_call(deadline_s) for deadline_s in (None, 0.0, LATER_S)]
    messages = [request(1), b"not even a request", request(3)]
    server.dispatcher.handle_all([(INFER, message, call) for message, call in zip(messages, calls, strict=True)])
    assert code(calls[1]) == "DEADLINE_EXCEEDED"
    server.run()
    assert [value(calls[at])[1] for at in (0, 2)] == [-1, -3]
    assert server.is_quiet()
