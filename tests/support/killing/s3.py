"""Kills a pull from an object store at random moments, in an init container's setup."""

import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
from object_store import PULL, ObjectStore

from pixelserve.card import Card, sha256_of
from pixelserve.golden import Golden, write_golden

MODEL = "scaler"
_WEIGHTS_BYTES = 16 << 20
_SOME = 20
_WAIT_S = 120


def write_model(folder: Path, version: int, seed: int) -> Path:
    """Writes a model whose files differ by seed, large enough to be killed in the middle."""
    (folder / str(version)).mkdir(parents=True)
    model = folder / str(version) / "model.onnx"
    model.write_bytes(np.random.default_rng(seed).bytes(_WEIGHTS_BYTES))
    Card(name=MODEL, task="unknown", sha256=sha256_of(model), created="2026-01-02T03:04:05Z").write(
        model.with_name("card.json")
    )
    values = np.full((2, 4), seed, np.float32)
    write_golden(model.with_name("golden.npz"), Golden({"values": values}, {"scaled": values}))
    (folder / "config.pbtxt").write_text(
        f'max_batch_size: {seed} output {{ name: "scaled" data_type: TYPE_FP32 dims: [ 4 ] '
        'label_filename: "labels.txt" }'
    )
    (folder / "labels.txt").write_text("".join(f"class {number} of {seed}\n" for number in range(4)))
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Returns what a server sees of a repository: its files, but hidden ones."""
    found = {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file()}
    return {
        str(name): path.read_bytes()
        for name, path in found.items()
        if not any(part.startswith(".") for part in name.parts)
    }


class S3Kills:
    """Pulls into one repository that are killed, again and again."""

    def __init__(self, store: ObjectStore, folder: Path, seed: int) -> None:
        """Writes an old and a new model to the store, and measures how long a pull takes."""
        self._random = random.Random(seed)
        self._store = store
        self._repository = folder / "repository"
        self._staged = self._repository / f".{MODEL}.pull"
        old, new = (write_model(folder / name / MODEL, 1, number) for number, name in enumerate(("old", "new"), 2))
        self._urls = [self._put(old, "old"), self._put(new, "new")]
        self._whole = [{f"{MODEL}/{name}": data for name, data in contents(each).items()} for each in (old, new)]
        self.outcomes: Counter[str] = Counter()
        """What a server would have seen after each kill."""
        self._pull_s = max(self._measure(0), self._measure(1))

    def _put(self, model: Path, name: str) -> str:
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder, name)
            shutil.copytree(model, copy)
            return self._store.put(copy)

    def _start(self, url: str) -> "subprocess.Popen[str]":
        command = [str(PULL), "models", "pull", url, "--name", MODEL, "--model-repository", str(self._repository)]
        env = self._store.env
        return subprocess.Popen(
            [*command, "--require-card", "--replace"],
            env=env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def _measure(self, target: int) -> float:
        """Returns the seconds from the first file to the end."""
        process = self._start(self._urls[target])
        self._await_staging(process)
        started = time.monotonic()
        self._finish(process)
        return time.monotonic() - started

    def _await_staging(self, process: "subprocess.Popen[str]") -> None:
        while process.poll() is None and not self._staged.exists():
            time.sleep(0.001)

    def _finish(self, process: "subprocess.Popen[str]") -> None:
        _, said = process.communicate(timeout=_WAIT_S)
        if process.returncode != 0:
            raise RuntimeError(f"a pull that was not killed ended with {process.returncode}: {said}")

    def kill(self, number: int) -> str:
        """Pulls the other model, kills it, and looks; returns what is wrong, or nothing."""
        if self._random.random() < 0.3:
            shutil.rmtree(self._repository / MODEL, ignore_errors=True)
        before = contents(self._repository)
        target = 1 if before == self._whole[0] else 0
        process = self._start(self._urls[target])
        self._await_staging(process)
        # Some kills come after the end, and harm nothing.
        time.sleep(self._random.uniform(0, 1.5 * self._pull_s))
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=_WAIT_S)
        was_killed = process.returncode == -signal.SIGKILL
        found = contents(self._repository)
        outcome = "as before" if found == before else "whole" if found == self._whole[target] else "torn"
        self.outcomes[f"{outcome}, {'killed' if was_killed else 'had ended'}"] += 1
        if outcome == "torn" or process.returncode not in (0, -signal.SIGKILL):
            return f"kill {number}: {outcome}: {sorted(found)}, exit code {process.returncode}"
        return self._pull_again(number) if number % _SOME == _SOME - 1 else ""

    def _pull_again(self, number: int) -> str:
        """Pulls to the end; what killed ones have left must be gone."""
        self._finish(self._start(self._urls[0]))
        hidden = [path.name for path in self._repository.iterdir() if path.name.startswith(".")]
        whole = contents(self._repository) == self._whole[0]
        return "" if whole and not hidden else f"kill {number}: the next pull left {hidden}, whole: {whole}"
