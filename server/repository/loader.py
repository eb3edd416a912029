"""Loads one version of a model and makes it prove itself before it serves."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from pixelserve.card import Tensors
from pixelserve.external_data import find_model_file
from pixelserve.rows import ROWS, RowProof, repeat_rows

from ..engine.batcher import Batcher
from ..engine.curve import LatencyCurve
from ..engine.instance import Instance
from ..engine.measuring import WarmupBudget
from ..engine.policy import BatchingPolicy
from ..engine.providers import InUse, SessionOptions, provider_at
from ..engine.run import Observer
from ..engine.scores import ScoreReader
from ..engine.session import Session, check_model_file
from ..engine.timer import Timer
from ..errors import RepositoryError
from ..failures import FailureLog
from ..supervised import Supervisor
from .config import (
    Defaults,
    ModelConfig,
    Written,
    contradictions,
    label_problems,
    model_file_name,
    read_config,
    read_reshapes,
    settle,
)
from .evidence import Evidence, VersionFiles, print_of, read_files
from .layout import ModelFolder
from .opening import Opener
from .output_kind import read_scores
from .picture_proof import prove_pictures
from .progress import Progress
from .proof import Proof, Prover
from .scheduling import Placement
from .warming import Warming, choose_buckets
from .warmup import read_warmups

_ANYWHERE = Placement("auto")
_REMEDIES = {
    "dependent": "export the model in inference mode, with the batch as the first axis of every input and output",
    "unproven": "export the model with --samples, or give it model_warmup in config.pbtxt",
}


@dataclass(frozen=True)
class LoadedVersion:
    """A version that takes requests."""

    config: ModelConfig
    """The model's settled configuration."""
    folder: ModelFolder
    """Where it was loaded from: a session that is loaded anew comes from there too."""
    version: int
    """The version's number."""
    in_use: InUse
    """Where and how it computes."""
    evidence: Evidence
    """What is known of it."""
    rows: RowProof
    """Whether requests of different callers may share a run, as far as that was proven when it was loaded."""
    batcher: Batcher
    """Takes its requests."""
    load_s: float
    """Seconds that loading, replaying and warming took."""
    scores: ScoreReader | None = None
    """Tells what its output's numbers mean; None: it is not a classifier."""

    @property
    def provider(self) -> str:
        """Where it computes: ONNX Runtime's name of the execution provider."""
        return self.in_use.provider

    @property
    def name(self) -> str:
        """The model's name."""
        return self.config.name

    @property
    def curve(self) -> LatencyCurve:
        """What a run takes, by its size."""
        return self.batcher.curve

    @property
    def batch_limit(self) -> int:
        """Most rows that are merged into a run; 0: requests are not merged."""
        return self.batcher.limit if self.batcher.merges else 0

    @property
    def row_state(self) -> str:
        """What is known of its rows: a state of `RowProof`, or dependent, where serving has shown that they are."""
        return "dependent" if self.batcher.row_fault else self.rows.state

    @property
    def unmerged(self) -> str:
        """Why requests must not share a run, and what to do about it; empty: they may."""
        return _unmerged(self.row_state, self.batcher.row_fault or self.rows.reason)


@dataclass(frozen=True)
class Tuning:
    """How batches are shaped, on top of what config.pbtxt says."""

    buckets: str = "auto"
    """Sizes that batches are padded to: auto, none, powers, or sizes with commas between them."""
    limit_batches: bool = True
    """Whether merging stops at the smallest size that was measured to compute as many rows a second as any."""
    shed_delay_s: float = 0.0
    """Seconds that requests may wait in a queue that stands; 0: no limit."""
    run_on_arrival: bool = True
    """Whether a request that comes alone may be computed on the thread that brought it."""
    warmup: WarmupBudget = field(default_factory=WarmupBudget)
    """What measuring a version's batch sizes may take."""


@dataclass(frozen=True)
class Loader:
    """Turns version folders into `LoadedVersion`s."""

    session_options: SessionOptions
    """Where and how models compute."""
    defaults: Defaults
    """What holds where config.pbtxt is silent."""
    tuning: Tuning
    """How batches are shaped."""
    require_card: bool
    """Whether a version without a card is refused."""
    observer: Callable[[str, int], Observer]
    """Gives the observer of a model's version."""
    log_failure: FailureLog
    """Logs whatever a session raises while it serves, and returns the id under which it did."""
    timer: Timer | None = None
    """Drops requests when their deadlines pass."""
    supervisor: Supervisor | None = None
    """Watches over the threads that run batches; None: only their failures are logged."""
    on_broken: Callable[[str], object] = lambda _: None
    """Told the name of a model whose last session was given up."""
    on_progress: Callable[[str, int, str, float], object] = lambda *_: None
    """Called with model, version, step and seconds so far, while a load takes longer than a second."""
    on_other_output: Callable[[str, int, str], object] = lambda *_: None
    """Told the model, the version and what is wrong when its output is not what it was declared or taken to be."""
    on_unmerged: Callable[[str, int, str], object] = lambda _model, _version, _reason: None
    """Told a model's name, a version, and why its requests are not merged any more."""

    def load(self, folder: ModelFolder, version: int) -> LoadedVersion:
        """Loads a version, checks its evidence, warms and measures it, and starts its batcher.

        Raises:
            RepositoryError: the version cannot be served; the message names the file and the remedy.
            StartupError: the settings ask for a GPU or require one, and the model would be computed on the CPU.
        """
        start_s = time.monotonic()
        with Progress(partial(self.on_progress, folder.name, version)) as progress:
            loaded = self._load(folder, version, progress)
        return replace(loaded, load_s=time.monotonic() - start_s)

    def _load(self, folder: ModelFolder, version: int, progress: Progress) -> LoadedVersion:
        path = folder.version_path(version)
        proto = read_config(folder)
        opener = Opener.of(folder, find_model_file(path, model_file_name(proto)), proto, self.session_options)
        opened = print_of(opener.model)
        progress.step("opening the model")
        sessions = [opener.open(placement) for placement in opener.placements]
        first = sessions[0]
        config = settle(folder, proto, first.inputs, first.outputs, self.defaults)
        policy = self._tune(config.batching, first.provider)
        progress.step("proving what it computes")
        files = read_files(path, opener.model, opened, require_card=self.require_card)
        prover = _prover(folder, files, config, policy)
        proofs = [prover.prove(session) for session in sessions]
        proof = next((each for each in proofs if not each.rows.allows_merging), proofs[0])
        proof = replace(proof, evidence=prove_pictures(files, config, proof.evidence))
        if not proof.rows.allows_merging:
            policy = replace(policy, merge=False, buckets=())
        config = replace(config, batching=policy)
        on_other_output = partial(self.on_other_output, folder.name, version)
        scores = read_scores(config, files, first, proof.inputs, on_other_output)
        warming = self._warming(opener.model, policy, proof, progress)
        instances = [
            Instance(
                session,
                warm=warming.warm,
                check=warming.check,
                rebuild=partial(_reopen, partial(opener.open, placement), prover, proof),
            )
            for session, placement in zip(sessions, opener.placements, strict=True)
        ]
        batcher = self._batcher(folder, version, instances, policy)
        batcher.start()
        # Sessions settle what they use when they are warmed, which the batcher's threads have done.
        return LoadedVersion(config, folder, version, first.in_use, proof.evidence, proof.rows, batcher, 0.0, scores)

    def _warming(self, model: Path, policy: BatchingPolicy, proof: Proof, progress: Progress) -> Warming:
        if not proof.rows.allows_merging:
            # Larger batches are those that a caller sends; what they cost says nothing of merging.
            policy = replace(policy, max_batch_size=min(policy.max_batch_size, 1))
        return Warming(
            model,
            policy,
            partial(_batch, proof),
            self.tuning.warmup,
            lambda rows: progress.step(f"computing batches of {rows} rows"),
        )

    def _batcher(
        self, folder: ModelFolder, version: int, instances: Sequence[Instance[Session]], policy: BatchingPolicy
    ) -> Batcher:
        return Batcher(
            f"{folder.name} version {version}",
            instances,
            policy,
            self.observer(folder.name, version),
            self.log_failure,
            timer=self.timer,
            supervisor=self.supervisor,
            on_broken=partial(self.on_broken, folder.name),
            on_unmerged=lambda reason: self.on_unmerged(folder.name, version, _unmerged("dependent", reason)),
        )

    def _tune(self, policy: BatchingPolicy, provider: str) -> BatchingPolicy:
        any_thread = provider_at(provider).may_run_on_arrival(self.session_options)
        return replace(
            policy,
            buckets=choose_buckets(self.tuning.buckets, policy.max_batch_size, provider),
            limit_batches=self.tuning.limit_batches,
            shed_delay_s=self.tuning.shed_delay_s,
            run_on_arrival=self.tuning.run_on_arrival and any_thread,
        )

    def examine(
        self, folder: ModelFolder, version: int, config: Written | None, *, quick: bool = False
    ) -> Iterator[RepositoryError]:
        """Yields everything about a version's files for which `load` would refuse it, where `load` raises the first.

        Args:
            folder: the model's.
            version: its number.
            config: what its config.pbtxt says, or would say with its mistakes corrected.
            quick: whether to leave out what takes a session: the graph, and what the model computes.
        """
        path = folder.version_path(version)
        model = find_model_file(path, model_file_name(config))
        session: Session | None = None
        problems: list[RepositoryError] = []
        try:
            check_model_file(model)
            if not quick:
                opener = Opener(folder, model, self.session_options, read_reshapes(config), (_ANYWHERE,))
                session = opener.open(_ANYWHERE)
        except RepositoryError as error:
            yield error
        if not model.is_file():
            return
        if session is not None and config is not None:
            problems += contradictions(folder, config, session.inputs, session.outputs)
            problems += label_problems(folder, config, session.outputs)
            yield from problems
        try:
            files = read_files(path, model, {}, require_card=self.require_card)
            # A model that is not what its configuration says cannot be run as that says.
            if session is not None and not problems:
                settled = settle(folder, config, session.inputs, session.outputs, self.defaults)
                proof = _prover(folder, files, settled, settled.batching).prove(session)
                prove_pictures(files, settled, proof.evidence)
        except RepositoryError as error:
            yield error


def _prover(folder: ModelFolder, files: VersionFiles, config: ModelConfig, policy: BatchingPolicy) -> Prover:
    warmups = read_warmups(folder, config.written, config.inputs, policy.max_batch_size)
    return Prover(files, config.batching, warmups, policy.bucket(ROWS + 1) if policy.buckets else 0)


def _reopen(opener: Callable[[], Session], prover: Prover, proof: Proof) -> Session:
    """Opens a session anew, of the same file, which must prove what those did that it takes the place of.

    Raises:
        RepositoryError: it does not, or the model's file is another one by now.
    """
    session = opener()
    prover.files.check_same()
    rows = prover.prove(session).rows
    if proof.rows.allows_merging and not rows.allows_merging:
        problem = f"loaded anew, its rows may not share a run any more: {rows.reason}"
        raise RepositoryError(problem, path=prover.files.model)
    return session


def _unmerged(row_state: str, reason: str) -> str:
    remedy = _REMEDIES.get(row_state)
    return f"{reason}; requests are not merged; {remedy}" if remedy else ""


def _batch(proof: Proof, rows: int) -> Tensors | None:
    """Returns inputs that the model computed, for so many rows, or for 0 as they are; None: there are none."""
    if proof.inputs is None or (rows > 1 and not proof.rows.allows_merging):
        return None
    return repeat_rows(proof.inputs, rows) if rows else proof.inputs
