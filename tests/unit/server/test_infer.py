"""ModelInfer: caching heads and sharing batches change no answer, for any sequence of requests."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelserve.oip import inference_pb2 as pb
from pixelserve_server.api.infer import ModelInfer
from pixelserve_server.api.plan_cache import PlanCache
from pixelserve_server.api.status import status_of
from pixelserve_server.engine.policy import BatchingPolicy, QueuePolicy
from pixelserve_server.engine.regions import Regions
from pixelserve_server.engine.request import ComputedBatch, Request
from pixelserve_server.engine.tensors import BY_NAME, FREE, DataType, TensorSpec
from pixelserve_server.errors import DeadlineExceeded, NotFound, QueueFull, RequestError
from pixelserve_server.repository.config import ModelConfig

INFER = "/inference.GRPCInferenceService/ModelInfer"
Tensor = pb.ModelInferRequest.InferInputTensor
Output = pb.ModelInferRequest.InferRequestedOutputTensor


def spec(name: str, datatype: str, *shape: int) -> TensorSpec:
    return TensorSpec(name, BY_NAME[datatype], shape)


def unexpected(error: BaseException) -> str:
    raise AssertionError("something raised") from error


def told(call: Any, error: Exception) -> None:
    """Answers a call as the dispatcher does."""
    assert isinstance(error, RequestError)
    call.fail(status_of(error))


@dataclass(eq=False)
class FakeBatcher:
    """Keeps requests until they are computed, and merges those of one layout that are in a row."""

    compute: Callable[..., dict[str, Any]]
    merges: bool
    waiting: list[Request] = field(default_factory=list)
    ran: list[tuple[int, int, Any]] = field(default_factory=list)
    """Timeout, priority and deadline of every request."""

    def submit(self, request: Request, may_run: bool = False) -> None:
        self.waiting.append(request)

    def submit_all(self, requests: Sequence[Request]) -> list[tuple[Request, RequestError]]:
        self.waiting += requests
        return []

    def run(self) -> None:
        while self.waiting:
            first = self.waiting[0]
            together = 1
            while self.merges and together < len(self.waiting):
                if self.waiting[together].layout.key != first.layout.key:
                    break
                together += 1
            batch, self.waiting = self.waiting[:together], self.waiting[together:]
            rows = sum(each.rows for each in batch)
            outputs = self.compute(**first.layout.merge(batch, rows, rows))
            self.ran += [(each.timeout_ns, each.priority, each.deadline_ns) for each in batch]
            first.succeed_all(batch, ComputedBatch(outputs, rows, is_alone=together == 1), unexpected)


MODELS: dict[str, tuple[int, tuple[TensorSpec, ...], tuple[TensorSpec, ...], Callable[..., dict[str, Any]]]] = {
    "m": (
        8,
        (spec("x", "FP32", FREE, 2),),
        (spec("y", "FP32", FREE, 2), spec("bits", "INT32", FREE)),
        lambda x: {"y": -x, "bits": x.view(np.int32)[:, 0]},
    ),
    "free": (8, (spec("x", "UINT8", FREE, FREE),), (spec("y", "UINT8", FREE, FREE),), lambda x: {"y": 255 - x}),
    "pair": (
        8,
        (spec("x", "INT32", FREE), spec("b", "INT32", FREE)),
        (spec("y", "INT32", FREE),),
        lambda x, b: {"y": x - b},
    ),
    "words": (8, (spec("x", "BYTES", FREE, 1),), (spec("y", "BYTES", FREE, 1),), lambda x: {"y": x[:, ::-1]}),
    "fixed": (0, (spec("x", "FP32", 2),), (spec("y", "FP32", 2),), lambda x: {"y": -x}),
}


class FakeCatalogue:
    """The models, each with its own batcher, which merges requests or runs each separately."""

    def __init__(self, *, merges: bool) -> None:
        self.generation = 1
        self.loaded = {
            name: SimpleNamespace(
                name=name,
                version=3,
                config=ModelConfig(name, BatchingPolicy(rows, rows > 0, QueuePolicy(16)), inputs, outputs),
                batcher=FakeBatcher(compute, merges and rows > 0),
            )
            for name, (rows, inputs, outputs, compute) in MODELS.items()
        }

    def get(self, name: str, version: str = "") -> Any:
        if name not in self.loaded or version not in ("", "3"):
            raise NotFound(f'there is no model "{name}" of version "{version}"')
        return self.loaded[name]

    def run(self) -> None:
        for loaded in self.loaded.values():
            loaded.batcher.run()


class Server:
    """A ModelInfer, with a cache of heads or without, and the answers that it gave."""

    def __init__(self, make_call: Callable[..., Any], *, merges: bool = True, **limits: int) -> None:
        self.catalogue = FakeCatalogue(merges=merges)
        self.handler = ModelInfer(self.catalogue, Regions())
        self.handler._plans = PlanCache(**limits)
        self._make_call = make_call

    def answers(self, messages: Sequence[bytes], *, together: bool = False) -> list[tuple[list[bytes], list[Any]]]:
        """Sends messages, then has everything computed; returns for each its replies and its failures."""
        calls = [self._make_call() for _ in messages]
        arrivals = list(zip(messages, calls, strict=True))
        if together:
            self.handler.handle_all([(INFER, *each) for each in arrivals], told)
            arrivals = []
        for message, call in arrivals:
            try:
                self.handler(message, call)
            except RequestError as error:
                call.fail(status_of(error))
        self.catalogue.run()
        return [(call.replies, call.failures) for call in calls]


def mostly(usual: Any, *others: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from([usual] * 9 * len(others) + list(others))


PARAMETERS = [
    {"priority": pb.InferParameter(uint64_param=2)},
    {"timeout": pb.InferParameter(int64_param=5)},
    {"timeout": pb.InferParameter(int64_param=-5)},
    {"priority": pb.InferParameter(int64_param=-1)},
    {"note": pb.InferParameter(string_param="ordinary")},
    {"triton_enable_empty_final_response": pb.InferParameter(bool_param=True)},
]


def classes(name: str, count: int) -> Output:
    output = Output(name=name)
    output.parameters["classification"].int64_param = count
    return output


OUTPUTS = [[Output(name="y")], [classes("y", 1)], [classes("y", 0)], [Output(name="nope")], [Output(name="y")] * 2]


def id_field(text: str) -> bytes:
    return pb.ModelInferRequest(id=text).SerializeToString()


# As they are sent: none, an empty one, short ones, a long one, not ASCII, not even text, and two.
IDS = [*map(id_field, ("", "7", "8", "x" * 130, "größe")), b"\x1a\x00", b"\x1a\x01\xff", id_field("7") + id_field("8")]


@st.composite
def families(draw: Any) -> list[bytes]:
    """Makes ModelInferRequests up, mostly right, that differ in their ids and their tensors' bytes."""
    model = draw(st.sampled_from(["m", "m", "m", "free", "free", "pair", "words", "fixed", "nope"]))
    max_rows, inputs, _, _ = MODELS.get(model, MODELS["m"])
    rows = [draw(st.sampled_from([1, 1, 1, 2, 2, 3, 9, 0]))] if max_rows else []
    tensors, sizes = [], []
    for each in inputs:
        tail = [draw(st.integers(0, 3)) if size == FREE else size for size in each.shape[len(rows) :]]
        shape = draw(mostly([*rows, *tail], [1], [-1, 2]))
        tensors.append(Tensor(name=draw(mostly(each.name, "nope")), datatype=each.datatype.name, shape=shape))
        sizes.append((each.datatype, max(int(np.prod(shape)), 0)))
    pieces = [
        pb.ModelInferRequest(model_name=model, model_version=draw(mostly("", "3", "4"))),
        pb.ModelInferRequest(parameters=draw(st.sampled_from([{}] * 9 + PARAMETERS))),
        pb.ModelInferRequest(inputs=tensors),
        pb.ModelInferRequest(outputs=draw(st.sampled_from([[]] * 9 + OUTPUTS))),
    ]
    parts = [piece.SerializeToString() for piece in pieces]
    if draw(mostly(False, True)):
        parts = draw(st.permutations(parts))
    id_at, raw_at = draw(st.integers(0, 4)), draw(mostly(5, 0, 3))
    made = []
    for its_id in draw(st.lists(st.sampled_from([*IDS[:5], *IDS]), min_size=1, max_size=4)):
        byte = draw(st.integers(0, 255))
        surplus = draw(mostly(b"", b"\x00"))
        raw = [content(datatype, elements, byte) + surplus for datatype, elements in sizes]
        message = [*parts[:id_at], its_id, *parts[id_at:]]
        message.insert(raw_at, pb.ModelInferRequest(raw_input_contents=raw).SerializeToString())
        made.append(b"".join(message))
    return made


def content(datatype: DataType, elements: int, byte: int) -> bytes:
    """Returns a tensor's bytes, made from one byte."""
    if datatype.is_bytes:
        return (b"\x01\x00\x00\x00" + bytes([byte % 128])) * elements
    return bytes((byte + at) % 256 for at in range(elements * datatype.dtype.itemsize))


@st.composite
def damaged(draw: Any) -> list[bytes]:
    """Changes a byte of a request, cuts it off, or puts something between."""
    *others, message = draw(families())
    at = draw(st.integers(0, len(message)))
    byte = draw(st.sampled_from([b"\x00", b"\x01", b"\x1a", b"\x3a", b"\x7f", b"\x80", b"\xff"]))
    before, behind = message[:at], message[at:]
    return [*others, draw(st.sampled_from([before + byte + behind[1:], before, before + byte + behind]))]


messages = st.one_of(families(), families(), damaged(), st.lists(st.binary(max_size=20), max_size=2))


@settings(max_examples=400, deadline=None)
@given(
    sent=st.lists(messages, min_size=1, max_size=4).map(chain.from_iterable).map(list),
    forgets=st.booleans(),
    together=st.booleans(),
)
def test_remembering_heads_and_sharing_batches_changes_no_byte_of_any_answer(
    recorded_call: Callable[..., Any], sent: list[bytes], forgets: bool, together: bool
) -> None:
    """1. The messages are sent, and computed together by one server, each by itself by the other. 2. The same again,
    when their heads are known. 3. And once more to a catalogue that has changed. The first may get them at once."""
    remembering = Server(recorded_call, **({"max_plans": 2} if forgets else {}))
    forgetful = Server(recorded_call, merges=False, max_head_bytes=-1)
    for _ in range(2):
        assert remembering.answers(sent, together=together) == forgetful.answers(sent)
        assert remembering.answers(sent[::-1], together=together) == forgetful.answers(sent[::-1])
        remembering.catalogue.generation += 1
    assert not forgetful.handler._plans._known[1]
    for name, loaded in remembering.catalogue.loaded.items():
        assert loaded.batcher.ran == forgetful.catalogue.loaded[name].batcher.ran


def request(*values: float, model: str = "m", request_id: str = "", **fields: Any) -> bytes:
    """Returns a request of rows of two equal floats."""
    array = np.repeat(np.array(values, np.float32)[:, None], 2, axis=1)
    message = pb.ModelInferRequest(model_name=model, id=request_id, raw_input_contents=[array.tobytes()], **fields)
    message.inputs.add(name="x", datatype="FP32", shape=array.shape)
    return message.SerializeToString()


def rows(answer: tuple[list[bytes], list[Any]]) -> tuple[str, list[float]]:
    """Returns an answer's id and the first column of its first output."""
    (reply,), failures = answer
    assert failures == []
    response = pb.ModelInferResponse.FromString(reply)
    return response.id, np.frombuffer(response.raw_output_contents[0], np.float32)[::2].tolist()


@pytest.fixture
def server(recorded_call: Callable[..., Any]) -> Server:
    """A ModelInfer that remembers."""
    return Server(recorded_call)


def test_requests_of_one_head_get_their_own_ids_and_rows(server: Server) -> None:
    for _ in range(2):
        answers = server.answers([request(number, request_id=str(number)) for number in range(5)])
        assert [rows(answer) for answer in answers] == [(str(number), [-float(number)]) for number in range(5)]
    assert len(server.handler._plans._known[1]) == 1


def test_a_head_is_parsed_once(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.answers([request(1)])
    monkeypatch.setattr(server.catalogue, "get", lambda *_: pytest.fail("it was known"))
    assert rows(server.answers([request(5, request_id="x")])[0]) == ("x", [-5.0])


def test_a_known_head_keeps_its_timeout_and_its_priority(server: Server) -> None:
    patient = {"priority": pb.InferParameter(uint64_param=2), "timeout": pb.InferParameter(int64_param=7)}
    for _ in range(2):
        server.answers([request(1, parameters=patient), request(1)])
    assert server.catalogue.get("m").batcher.ran == [(7000, 2, None), (0, 0, None)] * 2


def test_a_known_head_goes_to_the_version_that_is_there_now(server: Server) -> None:
    server.answers([request(1)])
    server.catalogue.loaded["m"] = SimpleNamespace(**{**vars(server.catalogue.get("m")), "version": 4})
    server.catalogue.generation += 1
    ((reply,), _) = server.answers([request(1)])[0]
    assert pb.ModelInferResponse.FromString(reply).model_version == "4"


def test_a_known_head_of_a_model_that_is_gone_is_refused(server: Server) -> None:
    server.answers([request(1)])
    del server.catalogue.loaded["m"]
    server.catalogue.generation += 1
    ((replies, (status,)),) = server.answers([request(1)])
    assert (replies, status.code.name) == ([], "NOT_FOUND")


def test_deadlines_are_the_calls_own(server: Server, recorded_call: Callable[..., Any]) -> None:
    later_s = int(time.monotonic()) + 3600
    for deadline_s in (None, later_s, later_s + 1):
        server.handler(request(1), recorded_call(deadline_s))
    server.catalogue.run()
    assert [ran[2] for ran in server.catalogue.get("m").batcher.ran] == [
        None,
        later_s * 10**9,
        (later_s + 1) * 10**9,
    ]


def test_a_lone_call_whose_deadline_has_passed_is_refused_unread(
    server: Server, recorded_call: Callable[..., Any]
) -> None:
    with pytest.raises(DeadlineExceeded, match="before the server could look at the request"):
        server.handler(b"not even a request", recorded_call(time.monotonic()))
    assert not server.catalogue.get("m").batcher.waiting


@pytest.mark.parametrize("is_known", [False, True], ids=["a new head", "a known head"])
def test_the_batcher_knows_whether_the_thread_may_compute_and_when_the_caller_leaves(
    server: Server, recorded_call: Callable[..., Any], is_known: bool
) -> None:
    if is_known:
        server.answers([request(1)])
    submitted: list[Any] = []
    server.catalogue.get("m").batcher.submit = lambda request, may_run: submitted.append((request, may_run))
    for may_compute in (False, True):
        call = recorded_call(may_compute=may_compute)
        server.handler(request(1), call)
        made, may_run = submitted.pop()
        assert may_run is may_compute
        assert not made.cancelled
        call.leave()
        assert made.cancelled


@pytest.mark.parametrize("is_known", [False, True], ids=["a new head", "a known head"])
def test_a_batcher_that_refuses_is_heard(server: Server, is_known: bool) -> None:
    if is_known:
        server.answers([request(1)])

    def refuse(*_: Any) -> None:
        raise QueueFull("full")

    server.catalogue.get("m").batcher.submit = refuse
    ((replies, (status,)),) = server.answers([request(1)])
    assert (replies, status.code.name) == ([], "RESOURCE_EXHAUSTED")


def test_threads_that_bring_the_same_heads_at_once_get_their_own_rows(recorded_call: Callable[..., Any]) -> None:
    """On grpcio's transport any of its threads may bring a call."""
    server = Server(recorded_call, max_plans=2)
    lock, wrong = threading.Lock(), list[Any]()

    def submit(made: Request, may_run: bool) -> None:
        with lock:
            batcher = FakeBatcher(MODELS["m"][3], True, [made])
        batcher.run()

    server.catalogue.get("m").batcher.submit = submit

    def send(thread: int) -> None:
        for number in range(200):
            call, values = recorded_call(), [float(1000 * thread + number)] * (1 + number % 4)
            server.handler(request(*values, request_id=str(values[0])), call)
            if rows((call.replies, call.failures)) != (str(values[0]), [-value for value in values]):
                wrong.append(call)

    threads = [threading.Thread(target=send, args=(thread,)) for thread in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert wrong == []
