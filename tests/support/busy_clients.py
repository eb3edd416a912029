"""Clients that always have a call in flight, and report each result."""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from typing import Any

TIMEOUT_S = 60
IDLE_S = 0.5
LOST_IDLE = "HTTP lost after a pause"
METHOD = "/inference.GRPCInferenceService/ModelInfer"


class Clients:
    """Clients that send one call after the other until their `with` ends."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self._has_ended = threading.Event()
        self._pool = ThreadPoolExecutor(32)
        self.connections = ExitStack()
        """Closed when the clients have ended."""

    def __enter__(self) -> "Clients":
        return self

    def __exit__(self, *_: object) -> None:
        with self.connections:
            self._has_ended.set()
            self._pool.shutdown()

    def add(self, send: Callable[[], str]) -> None:
        """Adds a client; `send` sends one call, and returns what came of it."""
        self._pool.submit(self._work, send)

    def _work(self, send: Callable[[], str]) -> None:
        while not self._has_ended.wait(0.002):
            self.outcomes[send()] += 1


def grpc_client(served: Any, address: str, message: bytes) -> Callable[[], str]:
    """Returns a client as grpcio's users have it, on one connection."""
    infer = served.channel(address=address).unary_unary(METHOD)
    return lambda: f"gRPC {infer.future(message, timeout=TIMEOUT_S).code().name}"


def http_client(clients: Clients, served: Any, address: str) -> Callable[[], str]:
    """Returns a client that keeps its connection until told to close it, and never retries.

    A connection that was lost after it had been idle for longer than `IDLE_S` is reported as `LOST_IDLE`: HTTP/1.1 has
    no way to close it without the risk of a request on its way, and on a busy machine clients sleep that long.
    """
    connection = clients.connections.enter_context(closing(served.connect_http(address)))
    tensor = {"name": "values", "datatype": "FP32", "shape": [1, 4], "data": [0, 1, 2, 3]}
    body = json.dumps({"inputs": [tensor]})
    answered_s = time.monotonic()

    def send() -> str:
        nonlocal answered_s
        try:
            connection.request("POST", "/v2/models/doubler/infer", body, served.http_headers())
            answer = connection.getresponse()
            answer.read()
        except OSError as error:
            connection.close()
            return LOST_IDLE if time.monotonic() - answered_s > IDLE_S else f"HTTP {error!r}"
        finally:
            answered_s = time.monotonic()
        return f"HTTP {answer.status}"

    return send
