"""Clients that always have a call in flight, and report each result."""

import json
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from typing import Any

TIMEOUT_S = 60
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
    """Returns a client that keeps its connection until told to close it, and never retries."""
    connection = clients.connections.enter_context(closing(served.connect_http(address)))
    tensor = {"name": "values", "datatype": "FP32", "shape": [1, 4], "data": [0, 1, 2, 3]}
    body = json.dumps({"inputs": [tensor]})

    def send() -> str:
        try:
            connection.request("POST", "/v2/models/doubler/infer", body, served.http_headers())
            answer = connection.getresponse()
            answer.read()
        except OSError as error:
            connection.close()
            return f"HTTP {error!r}"
        return f"HTTP {answer.status}"

    return send
