"""For any graph and any concurrent callers, an answer equals that of the same request alone."""

import itertools
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper, save

from pixelserve_server.engine.providers import SessionOptions
from pixelserve_server.engine.request import Answer, Request
from pixelserve_server.engine.session import Session
from pixelserve_server.errors import RequestError
from pixelserve_server.repository.layout import ModelFolder
from pixelserve_server.repository.loader import Loader

PATIENCE_S = 20
WIDTH = 6
random = np.random.default_rng(5)
CONSTANTS = {
    "W": random.normal(size=(WIDTH, WIDTH)).astype(np.float32),
    "bias": random.normal(size=WIDTH).astype(np.float32),
    "one": np.ones(WIDTH, np.float32),
    "none": np.zeros(WIDTH, np.float32),
    "first": np.array(0),
    "pairs": np.array([-1, WIDTH // 2]),
    "last_axis": np.array(1),
}
# Operator, inputs where {} is what comes before, and attributes.
ROW_WISE = [
    ("MatMul", "{} W", {}),
    ("Add", "{} bias", {}),
    ("Tanh", "{}", {}),
    ("Relu", "{}", {}),
    ("Softmax", "{}", {"axis": 1}),
    ("LayerNormalization", "{} one none", {}),
    ("CumSum", "{} last_axis", {}),
]
MIXING = [
    ("Softmax", "{}", {"axis": 0}),
    ("LpNormalization", "{}", {"axis": 0}),
    ("CumSum", "{} first", {}),
    ("ReverseSequence", "{} lengths", {}),
    ("GlobalMean", "{}", {}),
]
# What becomes of the rows at the end: the output's declared shape, and the nodes that make it.
ENDS: dict[str, tuple[list[Any], list[tuple[str, str, dict[str, Any]]]]] = {
    "rows": ([None, WIDTH], []),
    "twice as many": ([None, WIDTH // 2], [("Reshape", "{} pairs", {})]),
    "another axis": ([None, None], [("Transpose", "{}", {"perm": [1, 0]})]),
    "one for all": ([None, WIDTH], [("ReduceMax", "{}", {"axes": [0], "keepdims": 1})]),
}


@dataclass(frozen=True)
class Graph:
    """A graph that hypothesis made up."""

    steps: list[tuple[str, str, dict[str, Any]]]
    end: str
    axis: str | None
    """The name of the input's first axis; None: it has none."""
    same_name: bool
    """Whether the output's first axis has the same name."""

    def write(self, path: Path) -> None:
        shape, last = ENDS[self.end]
        nodes, current, used = [], "x", set[str]()
        for number, (operator, taken, attributes) in enumerate([*self.steps, *last]):
            given = f"v{number}"
            nodes += _nodes(operator, taken.format(current), given, attributes)
            used |= set(taken.split())
            current = given
        nodes.append(helper.make_node("Identity", [current], ["y"]))
        named = [self.axis if self.same_name else "other", *shape[1:]]
        graph = helper.make_graph(
            nodes,
            "drawn",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [self.axis, WIDTH])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, named)],
            [numpy_helper.from_array(CONSTANTS[name], name) for name in sorted(used & set(CONSTANTS))],
        )
        path.parent.mkdir(parents=True)
        save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def _nodes(operator: str, taken: str, given: str, attributes: dict[str, Any]) -> list[Any]:
    """Returns the nodes of a step; some need more than one."""
    if operator == "GlobalMean":
        mean = helper.make_node("ReduceMean", [taken], [f"{given}m"], axes=[0], keepdims=1)
        return [mean, helper.make_node("Sub", [taken, f"{given}m"], [given])]
    if operator == "ReverseSequence":
        # The order of all rows: [rows, width] as [time, batch].
        count = [
            helper.make_node("Shape", [taken.split()[0]], [f"{given}s"], start=0, end=1),
            helper.make_node("Constant", [], [f"{given}w"], value_ints=[WIDTH]),
            helper.make_node("Expand", [f"{given}s", f"{given}w"], [f"{given}l"]),
        ]
        inputs = [taken.split()[0], f"{given}l"]
        return [*count, helper.make_node("ReverseSequence", inputs, [given], time_axis=0, batch_axis=1)]
    return [helper.make_node(operator, taken.split(), [given], **attributes)]


graphs = st.builds(
    Graph,
    steps=st.lists(st.sampled_from(ROW_WISE), min_size=1, max_size=3)
    | st.tuples(st.sampled_from(ROW_WISE), st.sampled_from(MIXING)).map(list)
    | st.tuples(st.sampled_from(MIXING), st.sampled_from(ROW_WISE)).map(list),
    end=st.sampled_from(["rows", "rows", "rows", *ENDS]),
    axis=st.sampled_from(["N", "batch_size", None]),
    same_name=st.booleans(),
)


@pytest.mark.slow
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    graph=graphs,
    rows=st.lists(st.integers(1, 3), min_size=2, max_size=6),
    delay_us=st.sampled_from([0, 5000]),
    seed=st.integers(0, 2**16),
)
def test_an_answer_is_that_of_the_same_request_alone(
    loader: Loader, graph: Graph, rows: list[int], delay_us: int, seed: int
) -> None:
    """1. A graph is served, merging as far as its rows allow. 2. Callers come at once, each with different rows, again
    and again. 3. Every answer is held against a session of its own that computed the request alone."""
    with tempfile.TemporaryDirectory() as repository:
        folder = ModelFolder(Path(repository) / "drawn")
        model = folder.version_path(1) / "model.onnx"
        graph.write(model)
        alone = Session(model, SessionOptions(device="cpu", intra_op_threads=1))
        if alone.inputs[0].shape[:1] == (-1,) == alone.outputs[0].shape[:1]:
            batching = f"dynamic_batching {{ max_queue_delay_microseconds: {delay_us} }}"
            folder.config_file.write_text(f"max_batch_size: 16 {batching}")
        loaded = loader.load(folder, 1)
        values = np.random.default_rng(seed).normal(size=(len(rows), 3, WIDTH)).astype(np.float32)
        wanted = [each[:count] for each, count in zip(values, rows, strict=True)]
        try:
            answers = ask_at_once(loaded.batcher, wanted)
        finally:
            loaded.batcher.drain(PATIENCE_S)
        for sent, got in answers:
            assert isinstance(got, Answer), got
            np.testing.assert_allclose(got.outputs["y"], alone.run({"x": sent})["y"], rtol=1e-3, atol=1e-4)


def ask_at_once(batcher: Any, wanted: list[Any], times: int = 2) -> list[tuple[Any, Answer | RequestError]]:
    """Submits tensors, from a thread each, and returns what each got. A queue of 16 holds all."""
    found: list[tuple[Any, Answer | RequestError]] = []
    start, is_done = threading.Barrier(len(wanted)), threading.Semaphore(0)

    def call(sent: Any) -> None:
        start.wait(PATIENCE_S)
        for _ in itertools.repeat(None, times):
            batcher.submit(
                Request({"x": sent}, len(sent), lambda answer: (found.append((sent, answer)), is_done.release()))
            )

    threads = [threading.Thread(target=call, args=(sent,)) for sent in wanted]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    for _ in range(times * len(wanted)):
        assert is_done.acquire(timeout=PATIENCE_S)
    return found
