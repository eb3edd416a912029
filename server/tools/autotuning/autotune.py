"""Runs a race for one version and writes its winner into tuning.json."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from pixelserve.external_data import find_model_file, sha256_of

from ...engine.cores import usable_cores
from ...engine.curve import LatencyCurve, powers_of_two
from ...engine.providers import PROVIDERS, EngineChoice
from ...errors import BusyMachineError, RepositoryError
from ...repository.config import model_file_name, read_config
from ...repository.layout import ModelFolder
from ...repository.tuned import Engine, Machine, TunedVersion, tuning_path, write_tuning
from .candidates import Candidate, candidates, default_candidate
from .measurements import Entry, Speedup, lone_share, speedup
from .process import TrialProcess
from .queueing import best_delay_us
from .race import Effort, Labelled, Race
from .trace import Trace
from .trial import Job

MAX_SPREAD = 0.10
"""How far a speed-up may be uncertain, as a fraction of it, before nothing is written; see `Speedup.spread`."""
# A winner must beat the default by more than measurements of the same thing differ.
_LEAST_SPEEDUP = 1.05
# How often rounds are repeated before a machine counts as busy.
_MOST_TRIES = 3
# A lone request may not take longer than this many times the default's.
_LONE = 1.03


@dataclass(frozen=True)
class Wishes:
    """What the operator asks for."""

    samples: Labelled | None = None
    """Labelled samples, or None."""
    trace: Trace | None = None
    """A recorded workload, or None."""
    int8_model: Path | None = None
    """The int8 form of the model, or None."""
    most_loss: float = 0.001
    """Accuracy that a candidate may lose, a fraction of 1."""
    most_spread: float = MAX_SPREAD
    """See `MAX_SPREAD`."""
    rounds: int = 5
    """Rounds over all candidates and sizes."""
    seconds: float = 0.1
    """Time of one measurement."""
    output: Path | None = None
    """The file to write; None: tuning.json in the model's folder."""


@dataclass(frozen=True)
class Outcome:
    """What a race found."""

    entries: list[Entry]
    """All candidates; the default is the first."""
    sizes: tuple[int, ...]
    """The measured batch sizes."""
    weights: dict[int, float]
    """By batch size, its share of all rows in the workload that decided."""
    tuned: TunedVersion | None
    """What was written, or None if nothing beat the default."""
    winner: Entry | None
    """The winning row, or None."""
    why: str
    """What decided, in one sentence."""
    written: Path | None
    """The written file, or None."""
    speedups: dict[str, Speedup] = field(default_factory=dict)
    """By candidate's title, its speed-up for the workload; those that are in the race."""


def autotune(
    folder: ModelFolder,
    version: int,
    wishes: Wishes,
    on_step: Callable[[str], object],
    start: Callable[[Job], TrialProcess] = TrialProcess,
) -> Outcome:
    """Measures all candidates and writes the winner.

    Args:
        folder: the model's folder.
        version: the version's number.
        wishes: what the operator asks for.
        on_step: called with each step, for the progress bar.
        start: makes a candidate's process; tests make others.

    Raises:
        RepositoryError: the default engine cannot serve the version, or the file cannot be written.
        BusyMachineError: repeated rounds differ so much that the winner is uncertain.
    """
    cores = usable_cores()
    model = find_model_file(folder.version_path(version), model_file_name(read_config(folder)))
    with Race(folder, version, on_step, start) as race:
        default = race.enter(default_candidate(cores))
        if default.out:
            raise RepositoryError(f"the default engine cannot serve it: {default.out}", path=model)
        for candidate in candidates(cores, wishes.int8_model):
            if candidate != default.candidate:
                race.enter(candidate)
        if wishes.samples is not None:
            race.check_accuracy(wishes.samples, wishes.most_loss)
        sizes = _sizes(race.max_batch_size, wishes.trace)
        effort = Effort(sizes, wishes.rounds, wishes.seconds)
        weights = _weights(sizes, race.max_batch_size, wishes.trace)
        decision = _Decision(race, default, effort, weights, wishes.most_spread)
        winner = decision.winner(None)
        speedups = decision.speedups(race.entries)
        why = f"nothing beat {default.candidate.title} by more than {_LEAST_SPEEDUP - 1:.0%}"
        if winner is not None and _is_slower_alone(winner, default):
            first = len(race.entries)
            why = f"{winner.candidate.title} is faster, but slower for a lone request, also if it computes batches only"
            winner = _beside_default(decision, winner)
            speedups |= decision.speedups(race.entries[first:])
    if winner is None:
        return Outcome(race.entries, sizes, weights, None, None, why, None, speedups)
    tuned = _record(winner, default, weights, sha256_of(model), wishes.trace)
    path = wishes.output or tuning_path(folder)
    write_tuning(path, version, tuned)
    why = _why(winner, default, tuned)
    return Outcome(race.entries, sizes, weights, tuned, winner, why, path, speedups)


def _sizes(max_batch_size: int, trace: Trace | None) -> tuple[int, ...]:
    """Returns the batch sizes to measure: powers of two, so thresholds can be found, and the requests of a trace."""
    largest = max(max_batch_size, 1)
    asked = set(trace.shares()) if trace is not None else {8, 32}
    return tuple(sorted({size for size in {*powers_of_two(largest), *asked} if size <= largest}))


def _weights(sizes: tuple[int, ...], max_batch_size: int, trace: Trace | None) -> dict[int, float]:
    """Returns which batch sizes decide: those of a trace's requests, else full batches and requests of 8 and more."""
    if trace is not None:
        shares = trace.shares()
        return {size: shares[size] for size in sizes if size in shares} or {sizes[-1]: 1.0}
    chosen = [size for size in (8, 32, max(max_batch_size, 1)) if size in sizes] or [sizes[-1]]
    return dict.fromkeys(chosen, 1 / len(set(chosen)))


@dataclass(frozen=True)
class _Decision:
    """Measures until it is certain whether a candidate beats the default."""

    race: Race
    default: Entry
    effort: Effort
    weights: dict[int, float]
    most_spread: float

    def winner(self, entries: list[Entry] | None, admits: Callable[[Entry], bool] = lambda _: True) -> Entry | None:
        """Returns the fastest candidate that can be served, if it clearly beats the default.

        Rounds are repeated up to three times as often as asked, until the interval of its speed-up does not include
        the least one that counts, or is narrow.

        Args:
            entries: those to measure, with the default; None: all.
            admits: which of them may win.

        Raises:
            BusyMachineError: it is not certain.
            RepositoryError: the default engine failed.
        """
        uncertain = ""
        for _ in range(_MOST_TRIES):
            self.race.measure(self.effort, entries)
            if self.default.out:
                raise RepositoryError(f"the default engine failed while it was measured: {self.default.out}")
            best = self._best([each for each in entries or self.race.entries if admits(each)])
            if best is None:
                return None
            found = speedup(best, self.default, self.weights)
            if not found.low < _LEAST_SPEEDUP <= found.high or found.spread <= self.most_spread:
                return best if found.times >= _LEAST_SPEEDUP else None
            uncertain = f"{best.candidate.title} is {found.low:.2f} to {found.high:.2f} times as fast as"
        raise BusyMachineError(
            f"{uncertain} {self.default.candidate.title}, so whether it wins is uncertain, also after "
            f"{_MOST_TRIES * self.effort.rounds} rounds: something else uses this machine; nothing was written. Stop "
            f"it and try again"
        )

    def speedups(self, entries: list[Entry]) -> dict[str, Speedup]:
        """Returns the speed-ups by title of candidates that are in the race, measured in the default's last rounds."""
        measured = [each for each in entries if not each.out and each.rates]
        return {each.candidate.title: speedup(each, self.default, self.weights) for each in measured}

    def _best(self, entries: list[Entry]) -> Entry | None:
        racing = [each for each in entries if each is not self.default and each.candidate.can_be_served]
        measured = [each for each in racing if not each.out and each.rates]
        return max(measured, key=lambda each: speedup(each, self.default, self.weights).times, default=None)


def _is_slower_alone(entry: Entry, default: Entry) -> bool:
    return lone_share(entry, default) > _LONE


def _beside_default(decision: _Decision, winner: Entry) -> Entry | None:
    """Returns a winner that leaves small batches to the default engine, measured; None if that does not help.

    It has the winner's threads per run, or the default's if fewer would make a lone request slower.
    """
    race, default = decision.race, decision.default
    sizes = decision.effort.sizes
    threshold = next((rows for rows in sizes if rows > 1 and winner.time_us(rows) < default.time_us(rows)), None)
    if threshold is None:
        return None
    large = replace(winner.candidate.engines[-1], from_rows=threshold)
    layouts = {
        (winner.candidate.threads, winner.candidate.sessions),
        (default.candidate.threads, default.candidate.sessions),
    }
    tried: list[Entry] = []
    for threads, sessions in sorted(layouts):
        entry = race.enter(Candidate((*default.candidate.engines, large), threads, sessions))
        if not entry.out:
            tried.append(entry)
    # The default again, so both were measured in the same rounds.
    default.rates.clear()
    default.times_us.clear()
    return decision.winner([default, *tried], lambda each: not each.out and not _is_slower_alone(each, default))


def _record(
    winner: Entry, default: Entry, weights: dict[int, float], model_sha256: str, trace: Trace | None
) -> TunedVersion:
    candidate = winner.candidate
    sizes = tuple(sorted(winner.rates))
    limit = LatencyCurve(sizes, tuple(int(winner.time_us(rows) * 1e3) for rows in sizes)).best_size
    slow = {provider.engine for provider in PROVIDERS if provider.new_shapes_are_slow and not provider.on_gpu}
    pads = any(each.engine in slow for each in candidate.engines)
    times_us = {rows: winner.time_us(rows) for rows in sizes}
    delay_us = best_delay_us(trace, times_us, candidate.sessions, limit) if trace is not None else 0
    return TunedVersion(
        machine=Machine.here(),
        model_sha256=model_sha256,
        engines=tuple(Engine(**_fields(each)) for each in candidate.engines),
        threads=candidate.threads,
        sessions=candidate.sessions,
        buckets=_buckets(sizes[-1], limit) if pads else (),
        batch_limit=limit,
        queue_delay_us=delay_us,
        speedup=round(speedup(winner, default, weights).times, 3),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    ).sealed()


def _fields(choice: EngineChoice) -> dict[str, object]:
    return {"engine": choice.engine, "precision": choice.precision, "from_rows": choice.from_rows}


def _buckets(largest: int, limit: int) -> tuple[int, ...]:
    """Returns batch sizes to pad to: powers of two, and multiples of 8 up to the limit, which requests of 8 fill."""
    eights = range(8, limit + 1, 8) if limit <= 64 else ()
    return tuple(sorted({*powers_of_two(largest), *eights}))


def _why(winner: Entry, default: Entry, tuned: TunedVersion) -> str:
    lone = lone_share(winner, default)
    return (
        f"{winner.candidate.title} computes the workload {tuned.speedup:.2f} times as fast as "
        f"{default.candidate.title}, a lone request in {math.ceil(lone * 100) / 100:.2f} of its time"
    )
