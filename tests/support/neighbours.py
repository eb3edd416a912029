"""Well-behaved clients during an attack: every answer is checked, none may be missing."""

import threading
import time
from collections import Counter
from types import TracebackType
from typing import Self

import grpc
import numpy as np

from pixelserve.oip import inference_pb2 as pb

TIMEOUT_S = 60
METHOD = "/inference.GRPCInferenceService/ModelInfer"
PAUSE_S = 0.002


def request(number: int, model: str = "doubler") -> pb.ModelInferRequest:
    """Returns a request of the doubler whose id and values are a number."""
    values = np.full((1, 4), number, "<f4")
    made = pb.ModelInferRequest(model_name=model, id=str(number), raw_input_contents=[values.tobytes()])
    made.inputs.add(name="values", datatype="FP32", shape=[1, 4])
    return made


def is_answer(answer: pb.ModelInferResponse, number: int) -> bool:
    """Returns whether that is the answer to `request(number)`."""
    values = np.frombuffer(answer.raw_output_contents[0], "<f4").tolist()
    return answer.id == str(number) and values == [2 * number] * 4


class Neighbours:
    """Clients that each send one request after the other on a connection of their own, for the length of a `with`."""

    def __init__(self, target: str, count: int = 2) -> None:
        self.answered = 0
        """Calls with the right answer."""
        self.lost: Counter[str] = Counter()
        """All others: the status, or the problem."""
        self.took_s: list[float] = []
        """How long each call took that was answered."""
        self._target = target
        self._lock = threading.Lock()
        self._has_ended = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(number,)) for number in range(count)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._has_ended.set()
        for thread in self._threads:
            thread.join()

    def _call(self, client: int) -> None:
        number = client * 100_000
        with grpc.insecure_channel(self._target, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            infer = channel.unary_unary(
                METHOD, pb.ModelInferRequest.SerializeToString, pb.ModelInferResponse.FromString
            )
            while not self._has_ended.is_set():
                number += 1
                start_s = time.perf_counter()
                try:
                    outcome = "" if is_answer(infer(request(number), timeout=TIMEOUT_S), number) else "a wrong answer"
                except grpc.RpcError as error:
                    outcome = f"{error.code().name}: {error.details()}"
                took_s = time.perf_counter() - start_s
                with self._lock:
                    if outcome:
                        self.lost[outcome] += 1
                    else:
                        self.answered += 1
                        self.took_s.append(took_s)
                # The machine is the attacker's too: nothing is gained by more calls.
                time.sleep(PAUSE_S)
