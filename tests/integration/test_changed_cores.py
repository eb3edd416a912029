"""A running server whose cores are taken away or given back, as when Kubernetes resizes a pod."""

import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelserve.oip import inference_pb2 as pb

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core cannot be taken from a process with one"),
]

TIMEOUT_S = 60


def move(process_id: int, cores: Iterable[int]) -> None:
    """Moves all threads of a process to these cores."""
    for thread in Path(f"/proc/{process_id}/task").iterdir():
        os.sched_setaffinity(int(thread.name), cores)


def threads_of_loads(server: Any) -> list[int]:
    return [event["threads"] for event in server.events() if event["event"] == "model loaded"]


def test_a_model_is_loaded_again_with_as_many_threads_as_there_are_cores(
    start_server: Callable[..., Any],
    model_writer: Callable[..., Path],
    make_request: Callable[..., pb.ModelInferRequest],
    eventually: Callable[..., None],
    tmp_path: Path,
) -> None:
    model_writer(tmp_path / "doubler" / "1" / "model.onnx")
    all_cores = sorted(os.sched_getaffinity(0))[:2]
    server = start_server(tmp_path)
    move(server.process.pid, all_cores)
    stub, over, answers = server.stub(), threading.Event(), []

    def ask() -> None:
        while not over.is_set():
            answers.append(stub.ModelInfer(make_request(), timeout=TIMEOUT_S).raw_output_contents[0])

    caller = threading.Thread(target=ask)
    caller.start()
    try:
        eventually(lambda: threads_of_loads(server)[-1] == 2, timeout_s=TIMEOUT_S)
        before = len(threads_of_loads(server))
        move(server.process.pid, all_cores[:1])
        eventually(lambda: threads_of_loads(server)[before:] == [1], timeout_s=TIMEOUT_S)
        move(server.process.pid, all_cores)
        eventually(lambda: threads_of_loads(server)[before:] == [1, 2], timeout_s=TIMEOUT_S)
    finally:
        over.set()
        caller.join()
    # The caller got the same answer every time.
    assert set(answers) == {(2 * np.arange(4, dtype=np.float32)).tobytes()}
    changes = [event for event in server.events() if event["event"] == "usable cores changed"]
    assert [(event["before"], event["now"]) for event in changes][-2:] == [(2, 1), (1, 2)]
    assert server.stop() == 0


def test_models_with_a_fixed_number_of_threads_stay(
    start_server: Callable[..., Any], model_writer: Callable[..., Path], eventually: Callable[..., None], tmp_path: Path
) -> None:
    model_writer(tmp_path / "doubler" / "1" / "model.onnx")
    server = start_server(tmp_path, "--intra-op-threads", "2")
    assert threads_of_loads(server) == [2]
