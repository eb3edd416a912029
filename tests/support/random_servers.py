"""Servers that are stopped while they work, and their callers."""

import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from pixelserve.oip import inference_pb2 as pb
from pixelserve.oip import inference_pb2_grpc

GRACE_S = 4.0
CALL_S = 60
_REFUSALS = {"RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"}


@dataclass
class Round:
    """What became of one server."""

    state: str
    """What it was doing."""
    code: int | None = None
    """Its exit code."""
    took_s: float = 0.0
    """From the signal to its end."""
    ends: Counter[str] = field(default_factory=Counter)
    """How calls that were sent before the signal ended, by status."""
    lost: list[str] = field(default_factory=list)
    """Those that were neither answered nor refused."""
    expected: set[int] = field(default_factory=lambda: {0})
    """Exit codes that are right."""

    def is_right(self, allowed_s: float) -> bool:
        """Returns whether it ended within its grace and so many seconds, as it should, and lost nothing."""
        return self.code in self.expected and self.took_s < GRACE_S + allowed_s and not self.lost


class Server:
    """A server process, and callers that go on until it refuses them."""

    def __init__(self, repository: Path, transport: str, *flags: str, is_full: bool = False) -> None:
        ports = [_free_port() for _ in range(2)]
        command = [sys.executable, "-m", "pixelserve", "serve", "--model-repository", str(repository)]
        command += ["--transport", transport, "--grace-s", str(GRACE_S), "--metrics-port", "0", *flags]
        command += ["--grpc-port", str(ports[0]), "--http-port", str(ports[1])]
        self.address = f"127.0.0.1:{ports[0]}"
        self.signalled_s = float("inf")
        self.result = Round("")
        self._threads: list[threading.Thread] = []
        self._channels: list[grpc.Channel] = []
        with Path("/dev/full" if is_full else os.devnull).open("w") as log:
            self.process = subprocess.Popen(command, stderr=log, preexec_fn=_no_room if is_full else None)

    def channel(self, address: str = "") -> grpc.Channel:
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
        options += [("grpc.max_receive_message_length", -1)]
        self._channels.append(grpc.insecure_channel(address or self.address, options))
        return self._channels[-1]

    def stub(self, address: str = "") -> Any:
        return inference_pb2_grpc.GRPCInferenceServiceStub(self.channel(address))

    def wait_until_ready(self) -> None:
        grpc.channel_ready_future(self.channel()).result(CALL_S)
        while not self.stub().ServerReady(pb.ServerReadyRequest(), timeout=CALL_S).ready:
            time.sleep(0.05)

    def call(self, work: Callable[[], object], *, may_fail: bool = False) -> bool:
        """Makes one call and notes how it ended; returns whether to make another."""
        begun_s, status, details = time.monotonic(), "OK", ""
        try:
            work()
        except grpc.RpcError as error:
            status, details = error.code().name, error.details() or ""
        # One that was sent with the signal may have crossed the news that its connection should go.
        if begun_s < self.signalled_s - 0.05:
            self.result.ends[status] += 1
            if status != "OK" and status not in _REFUSALS and not may_fail:
                self.result.lost.append(f"{status}: {details}"[:160])
        return status == "OK" or status in _REFUSALS

    def keep_calling(self, number: int, work: Callable[[], object]) -> None:
        """Has so many callers make one call after the other until one is not answered."""

        def go_on() -> None:
            while self.call(work):
                pass

        self.start(*[go_on] * number)

    def start(self, *work: Callable[[], object]) -> None:
        for each in work:
            self._threads.append(threading.Thread(target=each, daemon=True))
            self._threads[-1].start()

    def end(self) -> None:
        """Sends SIGTERM and waits for the end of everything."""
        self.signalled_s = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.result.code = self.process.wait(GRACE_S + 30)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.result.took_s = time.monotonic() - self.signalled_s
        for thread in self._threads:
            thread.join(CALL_S)
        for channel in self._channels:
            channel.close()


def _no_room() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])
