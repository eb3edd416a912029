"""Exits with 0 if the server in this container is ready. Imports little, because HEALTHCHECK runs it often."""

import os
import socket
import sys

TIMEOUT_S = 3.0
REQUEST = b"GET /ready HTTP/1.0\r\nHost: localhost\r\n\r\n"


def is_ready(port: int) -> bool:
    """Returns whether the metrics port answers /ready with 200."""
    try:
        with socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as connection:
            connection.sendall(REQUEST)
            status = connection.makefile("rb").readline(100).split()
    except OSError:
        return False
    return status[1:2] == [b"200"]


if __name__ == "__main__":
    sys.exit(not is_ready(int(os.environ.get("PIXELSERVE_METRICS_PORT", "8002"))))
