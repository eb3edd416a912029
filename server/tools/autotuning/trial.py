"""The process in which one candidate is tried: whatever it does, the race only loses this candidate.

It reads one JSON object per line on stdin and answers with one per line on stdout: first the job, whose answer says
what the candidate proved, then measurements and predictions until stdin is closed.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pixelserve.arrays import read_arrays
from pixelserve.card import GOLDEN_FILE
from pixelserve.external_data import find_model_file
from pixelserve.golden import read_golden, replay_by_rule
from pixelserve.rows import repeat_rows

from ...engine.providers import EngineChoice, SessionOptions
from ...engine.session import Session
from ...engine.tensors import Array
from ...repository.config import Defaults, ModelConfig, model_file_name, read_config, resolve
from ...repository.evidence import print_of, read_files
from ...repository.layout import ModelFolder
from ...repository.opening import Opener
from ...repository.proof import Prover, in_batches
from .candidates import Candidate

DEFAULTS = Defaults(max_batch_size=64, max_queue_size=1)
"""For what config.pbtxt does not say; those of a server."""
SAMPLES_BYTES = 4 << 30
"""Most bytes of the labelled samples."""
_INT8_RULE = "int8"


@dataclass(frozen=True)
class Job:
    """A candidate, and the version that it computes."""

    folder: str
    """The model's folder."""
    version: int
    """The version's number."""
    engines: list[dict[str, Any]]
    """Fields of each `EngineChoice`."""
    threads: int
    """Threads per run."""
    sessions: int
    """Sessions that compute at once."""
    int8_model: str | None
    """The int8 form of the model, or None."""

    @classmethod
    def of(cls, folder: ModelFolder, version: int, candidate: Candidate) -> "Job":
        """Returns the job of a candidate."""
        engines = [asdict(each) for each in candidate.engines]
        int8_model = str(candidate.int8_model) if candidate.int8_model else None
        return cls(str(folder.path), version, engines, candidate.threads, candidate.sessions, int8_model)


class Trial:
    """A candidate, opened and proven as a server would."""

    def __init__(self, job: Job) -> None:
        """Opens and proves it.

        Raises:
            RepositoryError: it cannot compute the version, or does not reproduce its golden samples.
        """
        folder = ModelFolder(Path(job.folder))
        path = folder.version_path(job.version)
        written = read_config(folder)
        model = find_model_file(path, model_file_name(written))
        options = SessionOptions(
            engines=tuple(EngineChoice(**each) for each in job.engines), device="cpu", intra_op_threads=job.threads
        )
        opener = Opener.of(folder, model, written, options, sessions=job.sessions)
        # A version's own instance_group is about devices; the race is about this processor's cores.
        opener = replace(opener, placements=opener.placements[:1] * job.sessions)
        if job.int8_model:
            opener = replace(opener, model=Path(job.int8_model))
        self._sessions = [opener.open(placement) for placement in opener.placements]
        first = self._sessions[0]
        self._config: ModelConfig = resolve(folder, written, first.inputs, first.outputs, DEFAULTS)
        files = read_files(path, model, print_of(model), require_card=False)
        if job.int8_model:
            files = replace(files, card=None, golden=None)
        prover = Prover(files, self._config.batching, (), opener=opener)
        proofs = [prover.prove(session) for session in self._sessions]
        self._inputs = proofs[0].inputs
        self._merges = all(proof.rows.allows_merging for proof in proofs)
        self.evidence = proofs[0].evidence.summary
        self.precision = first.in_use.precision
        golden = path / GOLDEN_FILE
        if job.int8_model and golden.is_file():
            infer = in_batches(first, self.max_batch_size)
            self.evidence = f"largest difference {replay_by_rule(read_golden(golden), infer, _INT8_RULE):.2g}"

    @property
    def max_batch_size(self) -> int:
        """Maximum rows of a run; 0: the model has no batch dimension."""
        return self._config.batching.max_batch_size if self._merges or not self._config.batching.max_batch_size else 1

    def measure(self, rows: int, seconds: float) -> dict[str, float]:
        """Runs batches in all sessions at once, for some seconds.

        Returns:
            rows_per_s: throughput; run_us: median time of a run in microseconds.
        """
        batch = self._batch(rows)
        for session in self._sessions:
            session.warm(rows if self._config.batching.max_batch_size else 0, batch)
        times_ns: list[int] = []
        started_ns = time.perf_counter_ns()
        end_ns = started_ns + int(seconds * 1e9)
        _at_once([partial(_run_until, session, batch, end_ns, times_ns) for session in self._sessions])
        elapsed_ns = time.perf_counter_ns() - started_ns
        return {"rows_per_s": rows * len(times_ns) / elapsed_ns * 1e9, "run_us": float(np.median(times_ns)) / 1e3}

    def predict(self, path: Path, output: str) -> list[int]:
        """Returns the predicted class of each sample of an .npz file: inputs by tensor's name."""
        inputs = read_arrays(path, SAMPLES_BYTES)
        scores = in_batches(self._sessions[0], min(self.max_batch_size, 64))(inputs)[output]
        rows = np.asarray(scores.reshape(len(scores), -1), np.float64)
        if not np.isfinite(rows).all():
            raise ValueError("its scores are not numbers")
        found = (rows[:, 0] >= 0.5) if rows.shape[1] == 1 else rows.argmax(axis=1)
        return [int(each) for each in found]

    def _batch(self, rows: int) -> Mapping[str, Array]:
        if self._inputs is None:
            raise ValueError("it has no golden samples, and cannot compute made-up values; export it with --samples")
        return repeat_rows(self._inputs, rows) if self._config.batching.max_batch_size else self._inputs


def _run_until(session: Session, batch: Mapping[str, Array], end_ns: int, times_ns: list[int]) -> None:
    # At least one run, however slow.
    while True:
        start_ns = time.perf_counter_ns()
        session.run(batch)
        now_ns = time.perf_counter_ns()
        times_ns.append(now_ns - start_ns)
        if now_ns >= end_ns:
            return


def _at_once(actions: Sequence[Callable[[], object]]) -> None:
    others = [threading.Thread(target=action, daemon=True) for action in actions[1:]]
    for other in others:
        other.start()
    actions[0]()
    for other in others:
        other.join()


def main() -> None:
    """Answers requests until stdin is closed."""
    # Libraries write to stdout as they please; the answers go where nothing else does.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def answer(found: Mapping[str, Any]) -> None:
        print(json.dumps(found), file=answers, flush=True)

    try:
        trial = Trial(Job(**json.loads(sys.stdin.readline())))
        answer({"evidence": trial.evidence, "precision": trial.precision, "max_batch_size": trial.max_batch_size})
        for line in sys.stdin:
            request = json.loads(line)
            if "rows" in request:
                answer(trial.measure(request["rows"], request["seconds"]))
            else:
                answer({"classes": trial.predict(Path(request["samples"]), request["output"])})
    except Exception as error:  # noqa: BLE001  whatever a candidate raises is its result
        text = str(error).strip() or type(error).__name__
        answer({"error": text.splitlines()[0][:300]})


if __name__ == "__main__":
    main()
