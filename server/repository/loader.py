"""Loads one version of a model and verifies it before it serves."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from pixelserve.external_data import find_model_file
from pixelserve.golden import Tensors
from pixelserve.rows import ROWS, repeat_rows

from ..engine.batcher import Batcher
from ..engine.instance import Instance
from ..engine.measuring import WarmupBudget
from ..engine.policy import BatchingPolicy
from ..engine.providers import SessionOptions, choose, provider_at
from ..engine.run import Observer
from ..engine.session import Session, check_model_file
from ..engine.timer import Timer
from ..errors import RepositoryError, StartupError
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
    resolve,
)
from .evidence import VersionFiles, print_of, read_files
from .layout import ModelFolder
from .loaded import LoadedVersion, why_unmerged
from .opening import Opener
from .output_kind import read_scores
from .picture_proof import prove_pictures
from .progress import Progress
from .proof import Proof, Prover
from .scheduling import Placement
from .tuned import TUNING_FILE, NotTunedError, TunedVersion, tuned_version
from .warming import Warming, choose_buckets
from .warmup import read_warmups

_ANYWHERE = Placement("auto")


@dataclass(frozen=True)
class Tuning:
    """How batches are shaped, beyond config.pbtxt."""

    buckets: str = "auto"
    """Batch sizes to pad to: auto, none, powers, or comma-separated sizes."""
    limit_batches: bool = True
    """Whether to limit batches to the smallest size that reached the best measured throughput."""
    shed_delay_s: float = 0.0
    """Maximum wait in a standing queue, in seconds; 0: no limit."""
    run_on_arrival: bool = True
    """Whether a lone request may be computed on the thread that received it."""
    warmup: WarmupBudget = field(default_factory=WarmupBudget)
    """Budget for measuring a version's batch sizes."""
    sessions: int = 1
    """Sessions of models whose config.pbtxt has no instance_group."""
    batch_limit: int = 0
    """Maximum rows of merged requests; 0: measured at load."""
    queue_delay_s: float = 0.0
    """Seconds to wait for more requests, for models whose config.pbtxt sets no delay."""


@dataclass(frozen=True)
class Loader:
    """Turns version folders into `LoadedVersion`s."""

    session_options: SessionOptions
    """How models compute, and on what device."""
    defaults: Defaults
    """Used for what config.pbtxt does not set."""
    tuning: Tuning
    """How batches are shaped."""
    require_card: bool
    """Whether a version without a card is refused."""
    observer: Callable[[str, int], Observer]
    """Returns the observer of a model's version."""
    log_failure: FailureLog
    """Logs an error that a session raises while serving; returns its id in the log."""
    timer: Timer | None = None
    """Drops requests when their deadlines pass."""
    supervisor: Supervisor | None = None
    """Supervises the threads that run batches; None: only their failures are logged."""
    on_broken: Callable[[str], object] = lambda _: None
    """Called with the name of a model that lost its last session."""
    on_progress: Callable[[str, int, str, float], object] = lambda *_: None
    """Called with model, version, step and seconds so far, while a load takes longer than a second."""
    on_other_output: Callable[[str, int, str], object] = lambda *_: None
    """Called with model, version and problem when an output contradicts its declared or detected kind."""
    on_unmerged: Callable[[str, int, str], object] = lambda _model, _version, _reason: None
    """Called with model, version and reason when its requests are no longer merged."""
    uses_tuning: bool = False
    """Whether versions compute with the engines of their tuning.json, if it holds here."""
    on_untuned: Callable[[str, int, str], object] = lambda _model, _version, _reason: None
    """Called with model, version and reason when `uses_tuning` is on and the default engine computes all the same."""

    def load(self, folder: ModelFolder, version: int) -> LoadedVersion:
        """Loads a version, checks its evidence, warms and measures it, and starts its batcher.

        Raises:
            RepositoryError: the version cannot be served; the message names the file and the remedy.
            StartupError: the settings select or require a GPU, and the model would run on the CPU.
        """
        start_s = time.monotonic()
        with Progress(partial(self.on_progress, folder.name, version), "reading the configuration") as progress:
            loaded = (self._load_tuned if self.uses_tuning else self._load)(folder, version, progress)
        return replace(loaded, load_s=time.monotonic() - start_s)

    def _load_tuned(self, folder: ModelFolder, version: int, progress: Progress) -> LoadedVersion:
        """Loads a version as its tuning.json says; by the default engine if that does not hold."""
        try:
            if choose(self.session_options).on_gpu:
                raise NotTunedError(f"{TUNING_FILE} is for the CPU, and a GPU computes; --device cpu uses it")
            model = find_model_file(folder.version_path(version), model_file_name(read_config(folder)))
            return self._as_tuned(tuned_version(folder, version, model))._load(folder, version, progress)
        except (NotTunedError, RepositoryError, StartupError) as error:
            self.on_untuned(folder.name, version, str(error))
        return self._load(folder, version, progress)

    def _as_tuned(self, tuned: TunedVersion) -> "Loader":
        """Returns a loader with a version's measured engines and batches; settings of the operator win."""
        options, tuning = self.session_options, self.tuning
        buckets = ",".join(map(str, tuned.buckets)) or "none"
        return replace(
            self,
            session_options=replace(
                options, engines=tuned.choices, intra_op_threads=options.intra_op_threads or tuned.threads
            ),
            tuning=replace(
                tuning,
                buckets=buckets if tuning.buckets == "auto" else tuning.buckets,
                sessions=tuned.sessions,
                batch_limit=tuned.batch_limit,
                queue_delay_s=tuned.queue_delay_us / 1e6,
            ),
        )

    def _load(self, folder: ModelFolder, version: int, progress: Progress) -> LoadedVersion:
        path = folder.version_path(version)
        proto = read_config(folder)
        model = find_model_file(path, model_file_name(proto))
        opener = Opener.of(folder, model, proto, self.session_options, sessions=self.tuning.sessions)
        opened = print_of(opener.model)
        progress.step("opening the model")
        sessions = [opener.open(placement) for placement in opener.placements]
        first = sessions[0]
        config = resolve(folder, proto, first.inputs, first.outputs, self.defaults)
        policy = self._tune(config.batching, first.provider)
        progress.step("proving what it computes")
        files = read_files(path, opener.model, opened, require_card=self.require_card)
        prover = _prover(folder, files, config, policy, opener)
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
        # Sessions fix their memory when they are warmed, which the batcher's threads have done.
        return LoadedVersion(config, folder, version, first.in_use, proof.evidence, proof.rows, batcher, 0.0, scores)

    def _warming(self, model: Path, policy: BatchingPolicy, proof: Proof, progress: Progress) -> Warming:
        if not proof.rows.allows_merging:
            # Larger batches come from single callers; their cost says nothing about merging.
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
            on_unmerged=lambda reason: self.on_unmerged(folder.name, version, why_unmerged("dependent", reason)),
        )

    def _tune(self, policy: BatchingPolicy, provider: str) -> BatchingPolicy:
        any_thread = provider_at(provider).may_run_on_arrival(self.session_options)
        return replace(
            policy,
            buckets=choose_buckets(self.tuning.buckets, policy.max_batch_size, provider),
            limit_batches=self.tuning.limit_batches,
            tuned_limit=self.tuning.batch_limit,
            max_queue_delay_s=policy.max_queue_delay_s or self.tuning.queue_delay_s,
            shed_delay_s=self.tuning.shed_delay_s,
            run_on_arrival=self.tuning.run_on_arrival and any_thread,
        )

    def examine(
        self, folder: ModelFolder, version: int, config: Written | None, *, quick: bool = False
    ) -> Iterator[RepositoryError]:
        """Yields every reason for which `load` would refuse a version, of which `load` raises the first.

        Args:
            folder: the model's.
            version: its number.
            config: its config.pbtxt, with obvious mistakes corrected.
            quick: whether to skip the checks that need a session: the graph, and what the model computes.
        """
        path = folder.version_path(version)
        model = find_model_file(path, model_file_name(config))
        opener = Opener(folder, model, self.session_options, read_reshapes(config), (_ANYWHERE,))
        session: Session | None = None
        problems: list[RepositoryError] = []
        try:
            check_model_file(model)
            if not quick:
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
            # A model that contradicts its configuration cannot be run by it.
            if session is not None and not problems:
                resolved = resolve(folder, config, session.inputs, session.outputs, self.defaults)
                proof = _prover(folder, files, resolved, resolved.batching, opener).prove(session)
                prove_pictures(files, resolved, proof.evidence)
        except RepositoryError as error:
            yield error


def _prover(
    folder: ModelFolder, files: VersionFiles, config: ModelConfig, policy: BatchingPolicy, opener: Opener
) -> Prover:
    warmups = read_warmups(folder, config.written, config.inputs, policy.max_batch_size)
    return Prover(files, config.batching, warmups, policy.bucket(ROWS + 1) if policy.buckets else 0, opener)


def _reopen(opener: Callable[[], Session], prover: Prover, proof: Proof) -> Session:
    """Opens a replacement session of the same file, which must prove what the first did.

    Raises:
        RepositoryError: it does not, or the model file was replaced.
    """
    session = opener()
    prover.files.check_same()
    rows = prover.prove(session).rows
    if proof.rows.allows_merging and not rows.allows_merging:
        problem = f"after it was reloaded, its rows may not share a run any more: {rows.reason}"
        raise RepositoryError(problem, path=prover.files.model)
    return session


def _batch(proof: Proof, rows: int) -> Tensors | None:
    """Returns inputs that the model computed, repeated to `rows` rows (0: as they are); None if there are none."""
    if proof.inputs is None or (rows > 1 and not proof.rows.allows_merging):
        return None
    return repeat_rows(proof.inputs, rows) if rows else proof.inputs
