"""Cached request heads, and the answers written from them."""

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelserve.oip import inference_pb2 as pb
from pixelserve_server.api.codec import InferRequest, encode_bytes, encode_output, parse
from pixelserve_server.api.plan import Plan
from pixelserve_server.api.plan_cache import PlanCache
from pixelserve_server.engine.postprocess import top_classes
from pixelserve_server.engine.regions import Regions
from pixelserve_server.engine.request import ComputedBatch
from pixelserve_server.engine.tensors import BY_NAME, FREE, TensorSpec
from pixelserve_server.errors import InvalidRequest
from pixelserve_server.repository.config import ModelConfig

Output = pb.ModelInferRequest.InferRequestedOutputTensor


def part(**fields: Any) -> bytes:
    """Returns a serialized piece of a request; pieces may be strung together."""
    return pb.ModelInferRequest(**fields).SerializeToString()


def image(rows: int = 1) -> bytes:
    tensor = pb.ModelInferRequest.InferInputTensor(name="image", datatype="UINT8", shape=[rows, 28, 28, 1])
    return part(model_name="mnist-cnn", inputs=[tensor])


def raw(data: bytes) -> bytes:
    return part(raw_input_contents=[data])


PIXELS = bytes(784)
OUTPUTS = part(outputs=[Output(name="probabilities")])


def parsed(message: bytes) -> tuple[bytes, InferRequest]:
    """Returns a message, and the same parsed and without its id."""
    request = parse(message)
    request.head.ClearField("id")
    return message, request


def key_of(message: bytes) -> Any:
    return PlanCache().key_of(*parsed(message))


UNKNOWN_LONG_TAG = b"\xa2\x06\x02ab"
UNKNOWN_NUMBER = b"\x48\x01"


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(part(id="another") + image() + raw(b"\xff" * 784), id="another id and other pixels"),
        pytest.param(image() + raw(PIXELS) + part(id="größe"), id="an id behind the tensor"),
        pytest.param(part(id="6") + image() + part(id="7") + raw(PIXELS), id="two ids"),
        pytest.param(b"\x1a\x81\x007" + image() + raw(PIXELS), id="a length that has a byte more than it needs"),
        pytest.param(raw(PIXELS) + image(), id="the tensor first"),
    ],
)
def test_heads_that_protobuf_takes_for_the_same_are_the_same(message: bytes) -> None:
    assert key_of(message) == key_of(image() + raw(PIXELS)) != None  # noqa: E711


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(image() + raw(PIXELS[:-1]), id="a byte less"),
        pytest.param(image(2) + raw(PIXELS), id="another shape"),
        pytest.param(image() + OUTPUTS + raw(PIXELS), id="an output asked for"),
        pytest.param(image() + UNKNOWN_LONG_TAG + raw(PIXELS), id="an unknown field"),
        pytest.param(image() + UNKNOWN_NUMBER + raw(PIXELS), id="an unknown number"),
        pytest.param(image(), id="no tensor"),
        pytest.param(image() + raw(PIXELS) * 2, id="two tensors"),
        pytest.param(part(model_name="m" * 5000) + raw(PIXELS), id="a head of more than 4 KiB"),
    ],
)
def test_any_other_head_is_another_or_not_kept(message: bytes) -> None:
    assert key_of(message) != key_of(image() + raw(PIXELS))


heads = [image(), image(3), OUTPUTS, part(id="7"), part(id="x" * 130), part(id="ü"), b"\x1a\x00", b"\x1a\x81\x007"]
oddities = [UNKNOWN_LONG_TAG, UNKNOWN_NUMBER, b"\xba\x00\x01a", b"\x02\x00", b"\x12\x82\x80\x00ab", b"\x00", b"\x1a"]
tensors = [raw(b""), raw(b"abc"), raw(PIXELS), b"\x3a\x83\x00abc", raw(b"abc") * 2, raw(b"abc")[:-1], b""]
ids_as_sent = [b"", part(id="7"), part(id="x" * 127), part(id="ü"), b"\x1a\x00", b"\x1a\x81\x007", b"\x1a\x01\xff"]


@settings(max_examples=1500, deadline=None)
@given(
    st.lists(st.sampled_from(heads) | st.sampled_from(heads + oddities), max_size=4),
    st.integers(0, 4),
    st.sampled_from(ids_as_sent),
    st.sampled_from(tensors),
    st.none() | st.tuples(st.integers(0, 60), st.binary(max_size=1)),
)
def test_what_is_recalled_is_what_protobuf_parses(
    pieces: list[bytes], id_at: int, other_id: bytes, tensor: bytes, change: tuple[int, bytes] | None
) -> None:
    """1. A message is parsed, its head remembered. 2. Another comes that differs by its id, and perhaps by a byte."""
    first = b"".join(pieces) + tensor
    other = b"".join([*pieces[:id_at], other_id, *pieces[id_at:], tensor])
    if change is not None:
        at, byte = change
        other = other[:at] + byte + other[at + 1 :]
    try:
        cache, key, plan = PlanCache(), key_of(first), object()
    except InvalidRequest:
        return
    if key is None:
        return
    cache.get(key, 1)
    cache.put(key, plan, 1)  # type: ignore[arg-type]
    cache.get(key, 1)
    recalled = cache.recall(other, 1)
    if recalled is None:
        return
    its_plan, id_field, data = recalled
    whole = pb.ModelInferRequest.FromString(other)
    assert its_plan is plan
    assert list(whole.raw_input_contents) == [bytes(data)]
    # It goes back as it came, so it must have come as protobuf writes it.
    assert part(id=whole.id) == id_field
    assert key_of(other) == key


Configure = Callable[..., ModelConfig]
LABELLED = TensorSpec("scores", BY_NAME["FP32"], (FREE, 3), ("cat", "dog", "owl"))


def plan(config: ModelConfig, rows: int, *outputs: Output) -> Plan:
    """Returns the plan of a request of this many rows of `x`, two floats each."""
    loaded = SimpleNamespace(name="m", version=12, config=config, batcher=None)
    shape = (rows, 2) if config.batching.max_batch_size else (2,)
    message = pb.ModelInferRequest(model_name="m", outputs=outputs, raw_input_contents=[bytes(8 * rows)])
    message.inputs.add(name="x", datatype="FP32", shape=shape)
    request = parse(message.SerializeToString())
    made = Plan(request, loaded, Regions())
    made.decode(request)
    return made


def expected(request_id: str, *outputs: tuple[TensorSpec, Any]) -> bytes:
    """Returns the answer as protobuf writes it."""
    response = pb.ModelInferResponse(model_name="m", model_version="12", id=request_id)
    for spec, array in outputs:
        encode_output(response, spec, array)
    return response.SerializeToString()


def numbers(dtype: str, *shape: int) -> Any:
    return np.random.default_rng(7).integers(0, 100, shape).astype(dtype)


def ids(request_id: str) -> bytes:
    return pb.ModelInferResponse(id=request_id).SerializeToString()


def check_all(plans: Sequence[Plan], batch: ComputedBatch, specs: Sequence[TensorSpec]) -> None:
    """Checks the answers of requests that share a batch."""
    start = 0
    for number, each in enumerate(plans):
        end = start + each.rows
        request_id = ("", "7", "x" * 300)[number % 3]
        rows = [(spec, batch.outputs[spec.name][start:end]) for spec in specs]
        assert each.encode(ids(request_id), batch, start, end) == expected(request_id, *rows)
        start = end


SHAPES = {
    "a row of floats": ("FP32", (3,)),
    "one number a row": ("INT64", ()),
    "pictures": ("UINT8", (4, 4, 3)),
    "truth": ("BOOL", (2,)),
    "halves": ("FP16", (5,)),
    "bits of bfloat16": ("BF16", (5,)),
    "rows of nothing": ("FP64", (0,)),
    "rows of many bytes": ("FP64", (3000,)),
}


@pytest.mark.parametrize(("datatype", "tail"), SHAPES.values(), ids=SHAPES)
def test_answers_are_what_protobuf_writes(model_config: Configure, datatype: str, tail: tuple[int, ...]) -> None:
    config = model_config(outputs={"y": (datatype, (FREE, *tail))}, x=("FP32", (FREE, 2)))
    one, two = plan(config, 1), plan(config, 2)
    for plans in ([one], [two], [one, one, one], [one, two, one, two, two]):
        rows = sum(each.rows for each in plans)
        outputs = {"y": numbers(BY_NAME[datatype].dtype.str, rows, *tail)}
        for is_alone in {False, len(plans) == 1}:
            check_all(plans, ComputedBatch(outputs, rows, is_alone=is_alone), config.outputs)


@pytest.fixture
def several(model_config: Configure) -> ModelConfig:
    """A model of three outputs."""
    outputs = {"y": ("FP32", (FREE, 3)), "class": ("INT64", (FREE,)), "map": ("UINT8", (FREE, 2, FREE))}
    return model_config(outputs=outputs, x=("FP32", (FREE, 2)))


@pytest.mark.parametrize("asked", [(), ("map",), ("class", "y"), ("map", "y", "class")], ids=str)
def test_outputs_are_answered_in_the_order_asked_for(several: ModelConfig, asked: tuple[str, ...]) -> None:
    made = plan(several, 2, *(Output(name=name) for name in asked))
    specs = {spec.name: spec for spec in several.outputs}
    # A plan lasts, and a free dimension may be another each time.
    for width in (5, 6, 5):
        outputs = {"y": numbers("f4", 4, 3), "class": numbers("i8", 4), "map": numbers("u1", 4, 2, width)}
        chosen = [specs[name] for name in asked or specs]
        check_all([made, made], ComputedBatch(outputs, 4, is_alone=False), chosen)


def test_requests_that_ask_for_different_outputs_share_a_batch(several: ModelConfig) -> None:
    outputs = {"y": numbers("f4", 4, 3), "class": numbers("i8", 4), "map": numbers("u1", 4, 2, 2)}
    batch = ComputedBatch(outputs, 4, is_alone=False)
    y, _, pixels = several.outputs
    asks_y, asks_map = plan(several, 1, Output(name="y")), plan(several, 1, Output(name="map"))
    for start, (each, spec) in enumerate([(asks_y, y), (asks_map, pixels), (asks_y, y), (asks_map, pixels)]):
        rows = outputs[spec.name][start : start + 1]
        assert each.encode(b"", batch, start, start + 1) == expected("", (spec, rows))


def test_outputs_that_do_not_lie_in_order_in_memory_are_written_in_order(model_config: Configure) -> None:
    config = model_config(outputs={"y": ("FP32", (FREE, 3))}, x=("FP32", (FREE, 2)))
    transposed = numbers("f4", 3, 4).T
    every_second = numbers("f4", 8, 3)[::2]
    for array in (transposed, every_second):
        check_all([plan(config, 2)] * 2, ComputedBatch({"y": array}, 4, is_alone=False), config.outputs)


def test_one_that_ran_alone_is_answered_whatever_the_shape_of_the_outputs(model_config: Configure) -> None:
    config = model_config(outputs={"y": ("FP32", (FREE, 3)), "sum": ("FP32", (FREE,))}, x=("FP32", (FREE, 2)))
    y, total = config.outputs
    for shape in ((5,), (), (0,)):
        outputs = {"y": numbers("f4", 2, 3), "sum": numbers("f4", *shape)}
        answer = plan(config, 2).encode(ids("7"), ComputedBatch(outputs, 2, is_alone=True), 0, 2)
        assert answer == expected("7", (y, outputs["y"]), (total, outputs["sum"]))


def test_a_model_without_a_batch_dimension_is_answered_with_all_there_is(model_config: Configure) -> None:
    config = model_config(0, outputs={"y": ("FP32", (2, 3)), "sum": ("FP32", ())}, x=("FP32", (2,)))
    y, total = config.outputs
    outputs = {"y": numbers("f4", 2, 3), "sum": numbers("f4")}
    answer = plan(config, 1).encode(ids("7"), ComputedBatch(outputs, 1, is_alone=True), 0, 1)
    assert answer == expected("7", (y, outputs["y"]), (total, outputs["sum"]))


def test_strings_are_answered_row_by_row(model_config: Configure) -> None:
    config = model_config(outputs={"y": ("BYTES", (FREE, 2))}, x=("FP32", (FREE, 2)))
    words = np.array([["a", "größer"], ["", "b"], ["cc", "d"]], dtype=object)
    check_all([plan(config, 1), plan(config, 2)], ComputedBatch({"y": words}, 3, is_alone=False), config.outputs)


@pytest.mark.parametrize("batches", [True, False], ids=["with a batch dimension", "without"])
def test_classes_are_answered_with_their_labels(model_config: Configure, batches: bool) -> None:
    config = model_config(8 if batches else 0, x=("FP32", (FREE, 2) if batches else (2,)))
    spec = TensorSpec("scores", BY_NAME["FP32"], (FREE, 3) if batches else (3,), LABELLED.labels)
    config = ModelConfig("m", config.batching, config.inputs, (spec,))
    asked = Output(name="scores")
    asked.parameters["classification"].int64_param = 2
    scores = np.array([[0.1, 0.7, 0.2], [0.5, 0.25, 0.25], [0, 0, 1]], np.float32)
    made = plan(config, 2 if batches else 1, asked)
    if batches:
        answer, rows, shape = (
            made.encode(ids("7"), ComputedBatch({"scores": scores}, 3, is_alone=False), 1, 3),
            2,
            [2, 2],
        )
    else:
        answer, rows, shape = (
            made.encode(ids("7"), ComputedBatch({"scores": scores[1]}, 1, is_alone=True), 0, 1),
            1,
            [2],
        )
    best = top_classes(scores[1 : 1 + rows], 2, spec.labels)
    assert best[0] == [b"0.500000:0:cat", b"0.250000:1:dog"]
    response = pb.ModelInferResponse(model_name="m", model_version="12", id="7")
    response.outputs.add(name="scores", datatype="BYTES", shape=shape)
    response.raw_output_contents.append(encode_bytes([element for row in best for element in row]))
    assert answer == response.SerializeToString()


def test_a_plan_holds_for_more_requests_where_they_need_no_more_than_their_bytes(model_config: Configure) -> None:
    assert plan(model_config(x=("FP32", (FREE, 2))), 3).is_reusable
    assert not plan(model_config(0, x=("FP32", (2,))), 1).is_reusable


def test_a_plan_that_is_not_decoded_is_not_reusable(model_config: Configure) -> None:
    loaded = SimpleNamespace(name="m", version=1, config=model_config(x=("FP32", (FREE, 2))), batcher=None)
    assert not Plan(parse(b""), loaded, Regions()).is_reusable


def message(number: int, *, request_id: str = "", data: bytes = PIXELS) -> bytes:
    """Returns a request; each number has a different head."""
    return part(model_name=f"m{number}", model_version="3", id=request_id, outputs=[Output(name="y")]) + raw(data)


class Cache:
    """A cache that is asked for messages, by the numbers of their heads."""

    def __init__(self, **limits: int) -> None:
        self.plans = PlanCache(**limits)
        self.get(0, 1)

    def key(self, number: int) -> Any:
        return self.plans.key_of(*parsed(message(number)))

    def get(self, number: int, generation: int = 1) -> Any:
        key = self.key(number)
        return None if key is None else self.plans.get(key, generation)

    def put(self, number: int, generation: int = 1) -> Any:
        plan: Any = object()
        if (key := self.key(number)) is not None:
            self.plans.put(key, plan, generation)
        return plan


def test_a_cache_gives_back_what_it_was_given() -> None:
    cache = Cache()
    assert cache.get(1) is None
    first, second = cache.put(1), cache.put(2)
    assert (cache.get(1), cache.get(2), cache.get(3)) == (first, second, None)


def test_a_cache_forgets_everything_when_the_catalogue_changes() -> None:
    cache = Cache()
    cache.put(1)
    cache.get(1)
    assert cache.plans.recall(message(1), 2) is None
    assert cache.get(1, 2) is None
    assert [cache.plans.recall(message(1), generation) for generation in (1, 2)] == [None, None]
    assert cache.get(1, 1) is None


def test_a_cache_refuses_plans_made_before_the_catalogue_changed() -> None:
    cache = Cache()
    cache.get(1, 2)
    cache.put(1, 1)
    assert cache.get(1, 2) is None


class Interrupted(dict[Any, Any]):
    """Plans that another thread gets between to, while one looks up or puts."""

    def __init__(self, interrupt: Callable[[], object]) -> None:
        super().__init__()
        self._interrupt = interrupt

    def get(self, key: Any) -> Any:  # type: ignore[override]
        form = super().get(key)
        self._interrupt()
        return form

    def __len__(self) -> int:
        self._interrupt()
        return super().__len__()


@pytest.mark.parametrize("is_known", [True, False], ids=["while it looks up", "while it puts"])
def test_a_thread_that_is_overtaken_by_a_change_leaves_nothing_old_behind(is_known: bool) -> None:
    """Timeline: 1. a thread looks up or puts a head; 2. the catalogue changes, and another thread asks; 3. the first
    continues; 4. its plan is not used any more."""
    cache = Cache()
    interrupted = Interrupted(lambda: cache.get(2, generation=2))
    cache.plans._known = (1, interrupted)
    if is_known:
        other = Cache()
        other.put(1)
        dict.update(interrupted, other.plans._known[1])
        cache.get(1, generation=1)
    else:
        cache.put(1, generation=1)
    assert cache.plans.recall(message(1), 2) is None
    assert cache.get(1, generation=2) is None


def test_a_cache_is_bounded() -> None:
    cache = Cache(max_plans=3)
    for number in range(10):
        cache.put(number)
        assert cache.get(number) is not None
        assert sum(cache.get(each) is not None for each in range(10)) <= 3


def test_a_cache_keeps_no_large_heads() -> None:
    cache = Cache(max_head_bytes=len(message(9)) - len(PIXELS))
    cache.put(9)
    cache.put(10)
    assert cache.get(9) is not None
    assert cache.get(10) is None


@pytest.mark.parametrize("first_id", ["", "7", "x" * 300], ids=["no id", "an id", "a long id"])
@pytest.mark.parametrize("request_id", ["", "8", "x" * 127], ids=["no id", "an id", "the longest id"])
def test_the_head_that_came_last_is_recalled_whatever_the_id_and_the_pixels(first_id: str, request_id: str) -> None:
    cache, first = Cache(), message(1, request_id=first_id)
    plan = cache.put(1)
    assert cache.plans.recall(first, 1) is None
    assert cache.plans.get(cache.plans.key_of(*parsed(first)), 1) is plan
    again = message(1, request_id=request_id, data=b"\xff" * 784)
    recalled = cache.plans.recall(again, 1)
    assert recalled is not None
    assert recalled == (plan, part(id=request_id), b"\xff" * 784)
    assert recalled[2].obj is again


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(message(2), id="another head"),
        pytest.param(message(1, data=PIXELS[:-1]), id="another size"),
        pytest.param(message(1) + b"\x00", id="bytes behind it"),
        pytest.param(message(1)[:-1], id="cut off"),
        pytest.param(message(1, request_id="ü"), id="an id that is not ASCII"),
        pytest.param(message(1, request_id="x" * 128), id="an id whose length is two bytes"),
        pytest.param(part(id="7") + message(1), id="the id in front of the name"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_any_other_message_is_not_recalled(other: bytes) -> None:
    cache = Cache()
    cache.put(1)
    cache.get(1)
    assert cache.plans.recall(other, 1) is None
