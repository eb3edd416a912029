"""An object store on loopback that speaks S3: SeaweedFS, which `make deploy-check` and `make kills-s3` install."""

import contextlib
import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WEED = ROOT / ".venv" / "deploy" / "bin" / "weed"
PULL = ROOT / ".venv" / "pull-s3" / "bin" / "pixelserve"
"""The command, in an environment that has the extra pull-s3."""
BUCKET = "models"
_WAIT_S = 60
_PORTS = ("-master.port", "-master.port.grpc", "-volume.port", "-volume.port.grpc", "-filer.port", "-filer.port.grpc")


@dataclass(frozen=True)
class ObjectStore:
    """A store with one bucket, which one user may read."""

    endpoint: str
    """The URL of its S3."""
    filer: str
    """The URL that files are put to."""

    @property
    def env(self) -> dict[str, str]:
        """All of a pull's environment, as an init container has it: no HOME, nothing but the store and the user."""
        return {
            "PATH": os.defpath,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "reader",
            "AWS_SECRET_ACCESS_KEY": "secret",
        }

    def put(self, folder: Path) -> str:
        """Copies a folder into the bucket, in place of what is there under its name; returns its URL."""
        self._send("DELETE", f"{folder.name}?recursive=true")
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            self._send("PUT", str(path.relative_to(folder.parent)), path.read_bytes())
        return f"s3://{BUCKET}/{folder.name}"

    def _send(self, method: str, path: str, data: bytes | None = None) -> None:
        request = urllib.request.Request(f"{self.filer}/buckets/{BUCKET}/{path}", data, method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            opener.open(request, timeout=_WAIT_S).close()
        except urllib.error.HTTPError as error:
            with error:
                # Nothing to be removed yet.
                if method != "DELETE" or error.code != 404:
                    raise


@contextlib.contextmanager
def object_store(folder: Path) -> Iterator[ObjectStore]:
    """Runs a store that keeps its files in an empty folder."""
    rights = {
        "credentials": [{"accessKey": "reader", "secretKey": "secret"}],
        "actions": ["Read:models", "List:models"],
    }
    (folder / "s3.json").write_text(json.dumps({"identities": [{"name": "pull", **rights}]}))
    ports = [str(port) for port in _free_ports(len(_PORTS) + 2)]
    command = [str(WEED), "-logtostderr", "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={folder}", "-filer"]
    command += ["-s3", f"-s3.config={folder / 's3.json'}", "-s3.port.iceberg=0", "-s3.port.lance=0"]
    command += [f"{name}={port}" for name, port in zip((*_PORTS, "-s3.port", "-s3.port.grpc"), ports, strict=True)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, env={"PATH": os.defpath})
    try:
        store = ObjectStore(f"http://127.0.0.1:{ports[-2]}", f"http://127.0.0.1:{ports[4]}")
        _await_ready(process, store, folder / "log")
        yield store
    finally:
        process.kill()
        process.wait()


def _await_ready(process: "subprocess.Popen[bytes]", store: ObjectStore, log: Path) -> None:
    """Returns when a file can be put and S3 answers."""
    deadline = time.monotonic() + _WAIT_S
    while True:
        try:
            store._send("PUT", "ready", b"x")
            socket.create_connection(("127.0.0.1", int(store.endpoint.rpartition(":")[2])), 1).close()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the object store does not start: {log.read_text()[-2000:]}") from None
            time.sleep(0.1)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
