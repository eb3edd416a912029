"""The race: opens, proves and measures candidates, in alternating rounds so a busy moment costs all of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...repository.layout import ModelFolder
from .candidates import Candidate
from .measurements import Entry
from .process import TrialError, TrialProcess
from .trial import Job

START_LIMIT_S = 120.0
"""How long a candidate may take to open and prove a version."""
# A run takes as long as it does; the limit only ends what hangs.
_SLACK_S = 60.0
_PREDICT_LIMIT_S = 600.0


@dataclass(frozen=True)
class Labelled:
    """Labelled samples on disk."""

    inputs: Path
    """An .npz file of inputs by tensor's name."""
    targets: Sequence[int]
    """The class of each."""
    output: str
    """The output with the scores."""
    source: str
    """Where they come from, for people."""


@dataclass(frozen=True)
class Effort:
    """How much is measured."""

    sizes: tuple[int, ...]
    """Batch sizes, in rows, ascending from 1; those above the model's maximum are left out."""
    rounds: int = 5
    """Rounds over all candidates and sizes."""
    seconds: float = 0.1
    """Time of one measurement."""


class Race:
    """Candidates of one version. Use it as a context manager: it ends all processes."""

    def __init__(
        self,
        folder: ModelFolder,
        version: int,
        on_step: Callable[[str], object],
        start: Callable[[Job], TrialProcess] = TrialProcess,
    ) -> None:
        """Prepares a race.

        Args:
            folder: the model's folder.
            version: the version's number.
            on_step: called before each step with what it is, for the progress bar.
            start: makes a candidate's process.
        """
        self._folder, self._version = folder, version
        self._on_step = on_step
        self._start = start
        self._processes: dict[int, TrialProcess] = {}
        self.entries: list[Entry] = []
        self.max_batch_size = 0
        """Maximum rows of a run of the first candidate, once it was opened; 0: no batch dimension."""

    def __enter__(self) -> "Race":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes.values():
            process.stop()

    def enter(self, candidate: Candidate) -> Entry:
        """Opens and proves a candidate; returns its row."""
        entry = Entry(candidate)
        self.entries.append(entry)
        self._on_step(f"proving {candidate.title}")
        process = self._start(Job.of(self._folder, self._version, candidate))
        self._processes[id(entry)] = process
        try:
            proven = process.start(START_LIMIT_S)
        except TrialError as error:
            process.stop()
            entry.out = str(error)
            return entry
        entry.evidence = proven["evidence"]
        expected = "+".join(each.precision for each in candidate.engines)
        if proven["precision"] != expected:
            process.stop()
            entry.out = f"computed {proven['precision']} instead of {expected}"
        elif len(self.entries) == 1:
            self.max_batch_size = proven["max_batch_size"]
        return entry

    def check_accuracy(self, samples: Labelled, most_loss: float) -> None:
        """Has every candidate predict labelled samples; those that lose too much accuracy are out.

        Args:
            samples: the samples.
            most_loss: accuracy that a candidate may lose to the first, a fraction of 1.
        """
        default: np.ndarray[tuple[int], np.dtype[np.int64]] | None = None
        targets = np.asarray(samples.targets)
        for entry in self._racing():
            self._on_step(f"accuracy of {entry.candidate.title}")
            request = {"samples": str(samples.inputs), "output": samples.output}
            try:
                found = np.asarray(self._processes[id(entry)].ask(request, _PREDICT_LIMIT_S)["classes"])
            except TrialError as error:
                entry.out = str(error)
                continue
            default = found if default is None else default
            entry.accuracy = float((found == targets).mean())
            entry.changed_labels = int((found != default).sum())
            loss = float((default == targets).mean()) - entry.accuracy
            # Exactly the accepted loss must not fail by a rounding error.
            if loss > most_loss + 1e-9:
                entry.out = f"loses {loss * 100:.2f} points of accuracy, more than the accepted {most_loss * 100:g}"
                self._processes[id(entry)].stop()

    def measure(self, effort: Effort, entries: Sequence[Entry] | None = None) -> None:
        """Measures candidates that are in the race, in alternating rounds.

        Args:
            effort: how much.
            entries: those to measure; None: all.
        """
        for number in range(effort.rounds):
            for rows in effort.sizes:
                for entry in self._racing(entries):
                    self._on_step(f"round {number + 1} of {effort.rounds}, batches of {rows}")
                    request = {"rows": rows, "seconds": effort.seconds}
                    try:
                        measured = self._processes[id(entry)].ask(request, effort.seconds + _SLACK_S)
                    except TrialError as error:
                        entry.out = str(error)
                    else:
                        entry.add(rows, measured)

    def _racing(self, entries: Sequence[Entry] | None = None) -> list[Entry]:
        return [entry for entry in (self.entries if entries is None else entries) if not entry.out]
