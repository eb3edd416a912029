"""A candidate's process, seen from the race: every answer has a time limit, and no death of it is anyone else's."""

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from typing import IO, Any

from .trial import Job

MODULE = "pixelserve_server.tools.autotuning.trial"
_LAST_BYTES = 2000


class TrialError(Exception):
    """A candidate is out of the race; the message says why."""


class TrialProcess:
    """Runs one candidate."""

    def __init__(self, job: Job, command: tuple[str, ...] = (sys.executable, "-m", MODULE)) -> None:
        """Starts the process.

        Args:
            job: the candidate.
            command: what is started; tests start other programs.
        """
        self._job = job
        self._pending = b""
        # A pipe that no one reads would block the process.
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  closed by `stop`
        self._process = subprocess.Popen(  # noqa: S603  our own module, in this interpreter
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors
        )
        self._stdin, self._stdout = _pipes(self._process)

    def start(self, limit_s: float) -> dict[str, Any]:
        """Returns what the candidate proved.

        Raises:
            TrialError: it could not be opened or proven within the limit.
        """
        return self.ask(asdict(self._job), limit_s)

    def ask(self, request: dict[str, Any], limit_s: float) -> dict[str, Any]:
        """Sends a request and returns its answer.

        Raises:
            TrialError: it failed, died or took longer than the limit; the process has ended.
        """
        try:
            return self._ask(request, limit_s)
        except TrialError:
            self.stop()
            raise

    def _ask(self, request: dict[str, Any], limit_s: float) -> dict[str, Any]:
        # If it died, the read says how.
        with contextlib.suppress(OSError):
            self._stdin.write(json.dumps(request).encode() + b"\n")
            self._stdin.flush()
        line = self._read_line(time.monotonic() + limit_s, limit_s)
        try:
            answer: dict[str, Any] = json.loads(line)
        except ValueError as error:
            raise TrialError("answered nonsense") from error
        if "error" in answer:
            raise TrialError(str(answer["error"]))
        return answer

    def _read_line(self, end_s: float, limit_s: float) -> bytes:
        with selectors.DefaultSelector() as selector:
            selector.register(self._stdout, selectors.EVENT_READ)
            while b"\n" not in self._pending:
                if not selector.select(max(0.0, end_s - time.monotonic())):
                    raise TrialError(f"no answer within {limit_s:g} s")
                part = os.read(self._stdout.fileno(), 1 << 16)
                if not part:
                    raise TrialError(self._death(self._process.wait()))
                self._pending += part
        line, self._pending = self._pending.split(b"\n", 1)
        return line

    def _death(self, code: int) -> str:
        if code < 0:
            return f"crashed ({signal.Signals(-code).name})"
        self._errors.seek(0)
        last = self._errors.read()[-_LAST_BYTES:].decode(errors="replace").strip().splitlines()
        return f"ended with exit code {code}{f': {last[-1]}' if last else ''}"

    def stop(self) -> None:
        """Ends the process; safe to call twice."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._stdin, self._stdout, self._errors):
            # A pipe to a dead process may hold what it had not read.
            with contextlib.suppress(OSError):
                pipe.close()


def _pipes(process: "subprocess.Popen[bytes]") -> tuple[IO[bytes], IO[bytes]]:
    if process.stdin is None or process.stdout is None:
        raise TrialError("has no pipes")
    return process.stdin, process.stdout
