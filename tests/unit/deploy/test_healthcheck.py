"""The HEALTHCHECK of the server's images."""

import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from deploy.images.healthcheck import is_ready

SCRIPT = Path(__file__).resolve().parents[3] / "deploy" / "images" / "healthcheck.py"


def answering(listener: socket.socket, answer: bytes) -> threading.Thread:
    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(1000)
            connection.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


@pytest.mark.parametrize(
    ("answer", "ready"),
    [
        (b"HTTP/1.0 200 OK\r\n\r\nready", True),
        (b"HTTP/1.1 200 OK\r\n\r\n", True),
        (b"HTTP/1.0 503 Service Unavailable\r\n\r\n", False),
        (b"HTTP/1.0 404 Not Found\r\n\r\nno 200 here", False),
        (b"SSH-2.0-other\r\n", False),
        (b"", False),
    ],
)
def test_only_200_is_healthy(answer: bytes, ready: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = answering(listener, answer)
        assert is_ready(listener.getsockname()[1]) is ready
        thread.join()


def test_without_a_server_the_exit_code_is_1() -> None:
    with socket.socket() as unanswered:
        unanswered.bind(("127.0.0.1", 0))
        port = str(unanswered.getsockname()[1])
        command = [sys.executable, "-I", "-S", SCRIPT]
        assert subprocess.run(command, env={"PIXELSERVE_METRICS_PORT": port}).returncode == 1
