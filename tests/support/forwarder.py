"""What a Kubernetes Service is to a client: each connection goes to one of the servers, chosen when it begins."""

import socket
import threading
from collections import Counter
from contextlib import suppress


class Forwarder:
    """Listens on a port of its own, and passes connections on to servers in turn. `close` ends it."""

    def __init__(self, *targets: str) -> None:
        """Starts; `targets` are addresses of servers, HOST:PORT."""
        self.targets = targets
        """What connections that begin from now on go to."""
        self.accepted = 0
        """How many connections have begun."""
        self._open: Counter[str] = Counter()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._lock = threading.Lock()
        self._ends: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def open_to(self, target: str) -> int:
        """Returns how many connections to a server are open."""
        with self._lock:
            return self._open[target]

    def close(self) -> None:
        """Takes no more connections, and ends those there are."""
        for end in (self._listener, *self._ends):
            # Wakes the thread that waits for it, which closing does not.
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            target = self.targets[self.accepted % len(self.targets)]
            self.accepted += 1
            host, _, port = target.rpartition(":")
            server = socket.create_connection((host, int(port)))
            self._ends += [client, server]
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._carry, args=(target, client, server), daemon=True).start()

    def _carry(self, target: str, client: socket.socket, server: socket.socket) -> None:
        with self._lock:
            self._open[target] += 1
        back = threading.Thread(target=self._pump, args=(server, client), daemon=True)
        back.start()
        self._pump(client, server)
        back.join()
        with self._lock:
            self._open[target] -= 1
            self._ends = [end for end in self._ends if end not in (client, server)]
        client.close()
        server.close()

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            # The other direction has ended.
            pass
