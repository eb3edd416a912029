"""Runs workers, restarts them after a crash or hang, and keeps failing inputs."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from .server import ANSWER_S
from .target import CORPUS

HANGS_S = ANSWER_S + 60
"""A worker that has said nothing for so long hangs."""
GROWTH_MIB = 512
"""The most that a worker may have grown at its end since its first two thousand inputs."""
_MOST_KEPT = 5
"""Inputs kept of a target's one problem; there may be thousands."""


@dataclass
class Result:
    """What came of it."""

    inputs: int = 0
    """How many were computed."""
    failures: list[str] = field(default_factory=list)
    """One line each: target, number, problem, and the input's path."""
    memory_mib: list[tuple[float, float]] = field(default_factory=list)
    """Of each worker: after two thousand inputs, and at the end."""


class Fuzzing:
    """One run: workers after each other until the time is over."""

    def __init__(
        self,
        kind: str,
        *,
        only: str = "",
        seed: int = 1,
        inputs: int = sys.maxsize,
        seconds: float,
        saved: Path = CORPUS,
    ) -> None:
        """Stores what to do.

        Args:
            kind: of targets.
            only: names of targets, with commas between them; empty: all.
            seed: of all inputs.
            inputs: how many.
            seconds: how long to go on, at most.
            saved: where inputs that fail are saved, in a folder for each target.
        """
        self._kind, self._only, self._seed, self._last, self._seconds = kind, only, seed, inputs, seconds
        self._saved = saved
        self._kept: Counter[tuple[str, str]] = Counter()
        self._number = 0
        self._is_over = False
        self._heard_s = 0.0
        self.result = Result()

    def run(self) -> Result:
        """Computes inputs until the time is over."""
        end_s = time.monotonic() + self._seconds
        with tempfile.TemporaryDirectory() as folder:
            current = Path(folder, "current")
            while not self._is_over and (left_s := end_s - time.monotonic()) > 0:
                before = self._number
                code, said = self._run_worker(current, left_s)
                if self._is_over:
                    break
                if not current.exists():
                    raise RuntimeError(f"the worker did not start: {said}")
                head, _, data = current.read_bytes().partition(b"\n")
                target, _, number = head.decode().partition(" ")
                how = "hung" if code is None else f"ended with {code}"
                self._failed(target, number, f"the process {how}: {said[-6000:]}", data)
                self._number = int(number) + 1 if number.isdigit() else before + 1
        return self.result

    def _run_worker(self, current: Path, seconds: float) -> tuple[int | None, str]:
        """Runs one worker; returns its exit code, None where it hung, and what it said on stderr."""
        command = [sys.executable, str(Path(__file__).parent), "--worker", str(current), "--kinds", self._kind]
        command += ["--only", self._only, "--seed", str(self._seed), "--first", str(self._number)]
        command += ["--inputs", str(self._last)]
        command += ["--seconds", str(seconds)]
        self._heard_s = time.monotonic()
        with tempfile.TemporaryFile() as said:
            # stderr of native libraries goes there too.
            environment = {**os.environ, "PYTHONFAULTHANDLER": "1"}
            worker = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, env=environment)
            reader = threading.Thread(target=self._read, args=(worker,))
            reader.start()
            is_hung = False
            while reader.is_alive():
                reader.join(1)
                if time.monotonic() - self._heard_s > HANGS_S:
                    is_hung = True
                    # Has it say where its threads are.
                    worker.send_signal(signal.SIGABRT)
            code = worker.wait()
            said.seek(0)
            return None if is_hung else code, said.read().decode(errors="replace")

    def _read(self, worker: subprocess.Popen[bytes]) -> None:
        assert worker.stdout is not None
        inputs = self.result.inputs
        with worker.stdout as lines:
            for line in lines:
                self._heard_s = time.monotonic()
                try:
                    told = json.loads(line)
                except ValueError:
                    continue
                if "problem" in told:
                    self._failed(told["target"], told["input"], told["problem"], bytes.fromhex(told["data"]))
                    continue
                self._number = told["number"]
                self.result.inputs = inputs + told["count"]
                if told.get("is_over"):
                    self._is_over = True
                    self._judge_memory(told["start_mib"], told["memory_mib"])

    def _judge_memory(self, start_mib: float, end_mib: float) -> None:
        self.result.memory_mib.append((start_mib, end_mib))
        if start_mib and end_mib - start_mib > GROWTH_MIB:
            self.result.failures.append(f"memory grew from {start_mib:.0f} to {end_mib:.0f} MiB")

    def _failed(self, target: str, number: object, problem: str, data: bytes) -> None:
        kind = "".join(letter for letter in problem if not letter.isdigit())[:60]
        self._kept[target, kind] += 1
        if self._kept[target, kind] > _MOST_KEPT:
            return
        path = self._saved / target / f"failed-{hashlib.sha256(data).hexdigest()[:12]}"
        if isinstance(number, int) or str(number).isdigit():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        else:
            path = self._saved / target / str(number)
        line = f"seed {self._seed}, {target}, input {number}: {problem}; saved as {path}"
        self.result.failures.append(line)
        print(line, flush=True)
