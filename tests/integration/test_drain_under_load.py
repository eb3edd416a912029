"""SIGTERM under load: every sent request is answered or refused, none is lost."""

import asyncio
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import numpy as np
import pytest

from pixelserve.oip import inference_pb2 as pb

IN_FLIGHT = 64
BEFORE_SIGNAL = 400
ROUNDS = 20

pytestmark = [pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(240)]


def request() -> bytes:
    message = pb.ModelInferRequest(model_name="mnist-cnn", raw_input_contents=[np.zeros(784, np.uint8).tobytes()])
    message.inputs.add(name="image", datatype="UINT8", shape=[1, 28, 28, 1])
    return message.SerializeToString()


async def load_until_refused(address: str, stop: Callable[[], None]) -> Counter[str]:
    """Keeps 64 requests in flight; calls `stop` after some answers; every worker continues until it is refused.

    Returns how many were sent, answered, and refused, and how many ended in any other way.
    """
    counts: Counter[str] = Counter()
    body = request()
    async with grpc.aio.insecure_channel(address) as channel:
        infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")

        async def worker() -> None:
            while True:
                counts["sent"] += 1
                try:
                    # A lost request would wait for this long and then count as an other end.
                    answer = await infer(body, timeout=30)
                except grpc.aio.AioRpcError as error:
                    refused = error.code() is grpc.StatusCode.UNAVAILABLE
                    counts["refused" if refused else f"other: {error.code().name} {error.details()}"] += 1
                    return
                counts["answered" if len(answer) > 40 else "other: empty"] += 1
                if counts["answered"] == BEFORE_SIGNAL:
                    stop()

        await asyncio.gather(*(worker() for _ in range(IN_FLIGHT)))
    return counts


def test_a_stop_under_load_loses_no_request_20_times_in_a_row(start_server: Callable[..., Any], root: Path) -> None:
    """1. 64 requests are always in flight. 2. SIGTERM. 3. Each is answered, or told UNAVAILABLE. 4. Exit code 0."""
    for _ in range(ROUNDS):
        server = start_server(root / "models")
        counts = asyncio.run(
            load_until_refused(server.grpc, lambda: server.process.send_signal(signal.SIGTERM))  # noqa: B023
        )
        assert server.process.wait(60) == 0
        assert set(counts) == {"sent", "answered", "refused"}, counts
        assert counts["sent"] == counts["answered"] + counts["refused"]
        # All of them were told; those in the engine at the signal were answered.
        assert counts["refused"] == IN_FLIGHT
        stopped = next(event for event in server.events() if event["event"] == "stopped")
        assert stopped["unfinished"] == 0
        # The client received every answer that the server counted.
        assert stopped["answered"] == counts["answered"]
