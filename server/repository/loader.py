"""Loads one version of a model and makes it prove itself before it serves."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from pixelserve.card import (
    CARD_FILE,
    GOLDEN_FILE,
    Card,
    CardError,
    Golden,
    Tensors,
    read_card,
    read_golden,
    replay,
    verify_model_file,
)
from pixelserve.external_data import find_model_file

from ..engine.batcher import Batcher
from ..engine.binding import sample
from ..engine.curve import LatencyCurve
from ..engine.instance import Instance
from ..engine.measuring import WarmupBudget
from ..engine.policy import BatchingPolicy
from ..engine.providers import CUDA, InUse, SessionOptions
from ..engine.run import Observer
from ..engine.scores import ScoreReader
from ..engine.session import Session, check_model_file
from ..engine.tensors import Array
from ..engine.timer import Timer
from ..errors import RepositoryError, StartupError
from .config import (
    Defaults,
    ModelConfig,
    Written,
    contradictions,
    label_problems,
    model_file_name,
    read_config,
    settle,
)
from .layout import ModelFolder
from .output_kind import read_scores
from .pbtxt import error_at
from .progress import Progress
from .scheduling import Placement, read_instances
from .warming import Warming, choose_buckets


@dataclass(frozen=True)
class Evidence:
    """What is known of a version's origin and correctness."""

    card: Card | None
    """Its card; None: it has none."""
    verified: bool
    """Whether its file is the one that the card describes and it reproduced its golden outputs."""
    summary: str
    """The same for people, in one sentence."""


@dataclass(frozen=True)
class LoadedVersion:
    """A version that takes requests."""

    config: ModelConfig
    """The model's settled configuration."""
    version: int
    """The version's number."""
    in_use: InUse
    """Where and how it computes."""
    evidence: Evidence
    """What is known of it."""
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
        return self.batcher.limit if self.config.batching.merge else 0


@dataclass(frozen=True)
class Tuning:
    """How batches are shaped, on top of what config.pbtxt says."""

    buckets: str = "auto"
    """Sizes that batches are padded to: auto, none, powers, or sizes with commas between them."""
    limit_batches: bool = True
    """Whether merging stops at the smallest size that was measured to compute as many rows a second as any."""
    refuse_late: bool = False
    """Whether a request is refused at once where the measured times say that its deadline will pass first."""
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
    log_failure: Callable[[BaseException], str]
    """Logs whatever a session raises while it serves, and returns the id under which it did."""
    timer: Timer | None = None
    """Drops requests when their deadlines pass."""
    on_broken: Callable[[str], object] = lambda _: None
    """Told the name of a model whose last session was given up."""
    on_progress: Callable[[str, int, str, float], object] = lambda *_: None
    """Called with model, version, step and seconds so far, while a load takes longer than a second."""
    on_other_output: Callable[[str, int, str], object] = lambda *_: None
    """Told the model, the version and what is wrong when its output is not what it was declared or taken to be."""

    def load(self, folder: ModelFolder, version: int) -> LoadedVersion:
        """Loads a version, checks its evidence, warms and measures it, and starts its batcher.

        Raises:
            RepositoryError: the version cannot be served; the message names the file and the remedy.
            StartupError: the settings ask for a GPU or require one, and the model would be computed on the CPU.
        """
        start_s = time.monotonic()
        with Progress(partial(self.on_progress, folder.name, version)) as progress:
            config, first, evidence, batcher, scores = self._load(folder, version, progress)
        load_s = time.monotonic() - start_s
        # Only now, since sessions settle what they use when they are warmed.
        return LoadedVersion(config, version, first.in_use, evidence, batcher, load_s, scores)

    def _load(
        self, folder: ModelFolder, version: int, progress: Progress
    ) -> tuple[ModelConfig, Session, Evidence, Batcher, ScoreReader | None]:
        path = folder.version_path(version)
        proto = read_config(folder)
        model = find_model_file(path, model_file_name(proto))
        placements = read_instances(folder, proto)
        openers = [partial(self._open, folder, model, placement, len(placements)) for placement in placements]
        progress.step("opening the model")
        sessions = [opener() for opener in openers]
        first = sessions[0]
        config = settle(folder, proto, first.inputs, first.outputs, self.defaults)
        progress.step("checking the evidence")
        evidence = self._prove(path, model, first, config.batching.max_batch_size)
        scores = read_scores(config, evidence.card, path, first, partial(self.on_other_output, folder.name, version))
        config = replace(config, batching=self._tune(config.batching, first.provider))
        warming = Warming(
            model,
            config.batching,
            partial(sample, first.inputs),
            self.tuning.warmup,
            lambda rows: progress.step(f"computing batches of {rows} rows"),
        )
        batcher = Batcher(
            f"{folder.name} version {version}",
            [
                Instance(session, warm=warming.warm, check=warming.check, rebuild=opener)
                for session, opener in zip(sessions, openers, strict=True)
            ],
            config.batching,
            self.observer(folder.name, version),
            self.log_failure,
            timer=self.timer,
            on_broken=partial(self.on_broken, folder.name),
        )
        batcher.start()
        return config, first, evidence, batcher, scores

    def _open(self, folder: ModelFolder, model: Path, placement: Placement, instances: int) -> Session:
        options = replace(self.session_options, instances=instances)
        if placement.device != "auto":
            options = replace(options, device=placement.device)
        if placement.device_id is not None:
            options = replace(options, device_id=placement.device_id)
        try:
            return Session(model, options)
        except StartupError as error:
            settings = self.session_options
            if placement.device != "cuda" or settings.device == "cuda" or settings.require_gpu:
                raise
            # The model asks, and no setting.
            problem = "instance_group asks for a GPU, and no GPU or no CUDA library answers here; check nvidia-smi"
            raise error_at(folder.config_file, "instance_group.kind", problem, "kind: KIND_AUTO") from error

    def _tune(self, policy: BatchingPolicy, provider: str) -> BatchingPolicy:
        return replace(
            policy,
            buckets=choose_buckets(self.tuning.buckets, policy.max_batch_size, provider),
            limit_batches=self.tuning.limit_batches,
            refuse_late=self.tuning.refuse_late,
            # A CUDA graph is replayed on its own thread only.
            run_on_arrival=self.tuning.run_on_arrival and not (provider == CUDA and self.session_options.cuda.graphs),
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
            session = None if quick else self._open(folder, model, Placement("auto"), 1)
        except RepositoryError as error:
            yield error
        if not model.is_file():
            return
        if session is not None and config is not None:
            problems += contradictions(folder, config, session.inputs, session.outputs)
            problems += label_problems(folder, config, session.outputs)
            yield from problems
        try:
            # A model that is not what its configuration says cannot be run as that says.
            if session is None or problems:
                self._read_evidence(path, model)
            else:
                settled = settle(folder, config, session.inputs, session.outputs, self.defaults)
                self._prove(path, model, session, settled.batching.max_batch_size)
        except RepositoryError as error:
            yield error

    def _prove(self, path: Path, model: Path, session: Session, max_batch_size: int) -> Evidence:
        card, golden = self._read_evidence(path, model)
        if card is None:
            return Evidence(None, False, f"unverified: no {CARD_FILE}")
        if golden is None:
            return Evidence(card, False, f"unverified: no {GOLDEN_FILE} to replay")
        with _about(path / GOLDEN_FILE):
            error = replay(golden, in_batches(session, max_batch_size), card.tolerance(session.provider))
        return Evidence(
            card, True, f"verified: {golden.samples} golden samples reproduced, largest difference {error:.2g}"
        )

    def _read_evidence(self, path: Path, model: Path) -> tuple[Card | None, Golden | None]:
        """Returns a version's card, which is its model file's, and its golden samples; None for what is not there."""
        if not (path / CARD_FILE).is_file():
            if self.require_card:
                problem = f"no {CARD_FILE}, and --require-card is on; export the model with `pixelserve export`"
                raise RepositoryError(problem, path=path)
            return None, None
        with _about(path / CARD_FILE):
            card = read_card(path / CARD_FILE)
        with _about(model):
            verify_model_file(card, model)
        if not (path / GOLDEN_FILE).is_file():
            return card, None
        with _about(path / GOLDEN_FILE):
            return card, read_golden(path / GOLDEN_FILE)


@contextmanager
def _about(path: Path) -> Iterator[None]:
    """Makes what is wrong with a file of the evidence, or keeps it from being read, the repository's fault."""
    try:
        yield
    except (CardError, OSError) as problem:
        raise RepositoryError(str(problem).removeprefix(f"{path}: "), path=path) from problem


def in_batches(session: Session, max_batch_size: int) -> Callable[[Tensors], Tensors]:
    """Returns a function that computes any number of samples, in runs no larger than the model allows.

    It takes and gives tensors by name with samples along the first axis, also where the model has no batch dimension,
    and raises CardError where the model takes other inputs or cannot compute them.
    """

    def run_some(inputs: Tensors, start: int) -> dict[str, Array]:
        if max_batch_size:
            return session.run({name: array[start : start + max_batch_size] for name, array in inputs.items()})
        outputs = session.run({name: array[start] for name, array in inputs.items()})
        return {name: array[np.newaxis] for name, array in outputs.items()}

    def infer(inputs: Tensors) -> Tensors:
        known = {spec.name for spec in session.inputs}
        if set(inputs) != known:
            raise CardError(f"golden inputs are {sorted(inputs)}, the model's are {sorted(known)}; export it again")
        samples = len(next(iter(inputs.values())))
        try:
            parts = [run_some(inputs, start) for start in range(0, samples, max_batch_size or 1)]
        except Exception as error:
            raise CardError(f"the model cannot run its golden inputs: {error}; export it again") from error
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    return infer
