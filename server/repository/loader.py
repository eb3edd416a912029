"""Loads one version of a model and makes it prove itself before it serves."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from pixelserve.card import (
    CARD_FILE,
    GOLDEN_FILE,
    Card,
    CardError,
    Tensors,
    read_card,
    read_golden,
    replay,
    verify_model_file,
)

from ..engine.batcher import Batcher, Observer
from ..engine.curve import UNMEASURED, LatencyCurve, measure, powers_of_two
from ..engine.instance import Instance, Runner
from ..engine.session import CUDA, Session
from ..engine.tensors import Array
from ..engine.timer import Timer
from ..errors import RepositoryError
from .config import Defaults, ModelConfig, model_file_name, read_config, settle
from .layout import ModelFolder
from .scheduling import Placement, read_instances


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
    provider: str
    """Where it computes: ONNX Runtime's name of the execution provider."""
    evidence: Evidence
    """What is known of it."""
    batcher: Batcher
    """Takes its requests."""
    curve: LatencyCurve
    """What a run takes, by its size."""
    load_s: float
    """Seconds that loading, replaying and warming took."""

    @property
    def name(self) -> str:
        """The model's name."""
        return self.config.name


@dataclass(frozen=True)
class Tuning:
    """How batches are shaped, on top of what config.pbtxt says."""

    buckets: str = "auto"
    """Sizes that batches are padded to: auto, none, powers, or sizes with commas between them."""
    limit_batches: bool = True
    """Whether merging stops at the smallest size that was measured to compute as many rows a second as any."""
    refuse_late: bool = False
    """Whether a request is refused at once where the measured times say that its deadline will pass first."""


def choose_buckets(choice: str, max_batch_size: int, provider: str) -> tuple[int, ...]:
    """Returns the sizes that a model's batches are padded to, rising; none for one without a batch dimension.

    Args:
        choice: as in `Tuning.buckets`. auto means powers of two on CUDA, where another shape costs a search for
            kernels, and none on the CPU, where rows of zeros cost as much as images.
        max_batch_size: the model's.
        provider: ONNX Runtime's name of where it computes.
    """
    if not max_batch_size or choice == "none" or (choice == "auto" and provider != CUDA):
        return ()
    if choice in ("auto", "powers"):
        return powers_of_two(max_batch_size)
    sizes = {int(size) for size in choice.split(",")}
    # The largest is always there, or some batch would fit no bucket.
    return tuple(sorted({size for size in sizes if size < max_batch_size} | {max_batch_size}))


@dataclass(frozen=True)
class Loader:
    """Turns version folders into `LoadedVersion`s."""

    device: str
    """auto, cpu or cuda."""
    intra_op_threads: int
    """Threads that compute one run; 0: as many as there are usable cores."""
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

    def load(self, folder: ModelFolder, version: int) -> LoadedVersion:
        """Loads a version, checks its evidence, warms and measures it, and starts its batcher.

        Raises:
            RepositoryError: the version cannot be served; the message names the file and the remedy.
            StartupError: CUDA is asked for and no GPU answers.
        """
        start_s = time.monotonic()
        path = folder.version_path(version)
        proto = read_config(folder)
        model = path / model_file_name(proto)
        openers = [partial(self._open, model, placement) for placement in read_instances(folder, proto)]
        sessions = [opener() for opener in openers]
        session = sessions[0]
        config = settle(folder, proto, session.inputs, session.outputs, self.defaults)
        evidence = self._examine(path, model, session, config)
        buckets = choose_buckets(self.tuning.buckets, config.batching.max_batch_size, session.provider)
        curve = self._warm(model, sessions, config, buckets)
        best_size = curve.best_size if self.tuning.limit_batches else 0
        policy = replace(
            config.batching, buckets=buckets, best_batch_size=best_size, refuse_late=self.tuning.refuse_late
        )
        config = replace(config, batching=policy)
        batcher = Batcher(
            f"{folder.name} version {version}",
            [
                Instance(session, check=partial(_run_zeros, config=config, rows=1), rebuild=opener)
                for session, opener in zip(sessions, openers, strict=True)
            ],
            policy,
            self.observer(folder.name, version),
            self.log_failure,
            curve=curve,
            timer=self.timer,
        )
        batcher.start()
        load_s = time.monotonic() - start_s
        return LoadedVersion(config, version, session.provider, evidence, batcher, curve, load_s)

    def _open(self, model: Path, placement: Placement) -> Session:
        device = self.device if placement.device == "auto" else placement.device
        return Session(model, device=device, intra_op_threads=self.intra_op_threads)

    def _warm(
        self, model: Path, sessions: Sequence[Session], config: ModelConfig, buckets: Sequence[int]
    ) -> LatencyCurve:
        """Runs every batch size on every session, so that no request pays for a first run, and times the first one."""
        sizes = buckets or powers_of_two(config.batching.max_batch_size) or (1,)
        if _zeros(config, 1) is None:
            return UNMEASURED
        curves: list[LatencyCurve] = []
        for session in sessions:
            try:
                curves.append(measure(partial(_run_zeros, session, config), sizes))
            except Exception as error:
                raise RepositoryError(
                    f"{model}: cannot compute a batch of {sizes[0]} to {sizes[-1]} rows: {error}; export the model "
                    f"again, or write a smaller max_batch_size"
                ) from error
        return curves[0]

    def _examine(self, path: Path, model: Path, session: Session, config: ModelConfig) -> Evidence:
        if not (path / CARD_FILE).is_file():
            if self.require_card:
                raise RepositoryError(
                    f"{path}: no {CARD_FILE}, and --require-card is on; export the model with `pixelserve export`"
                )
            return Evidence(None, False, f"unverified: no {CARD_FILE}")
        try:
            card = read_card(path / CARD_FILE)
            verify_model_file(card, model)
            if not (path / GOLDEN_FILE).is_file():
                return Evidence(card, False, f"unverified: no {GOLDEN_FILE} to replay")
            golden = read_golden(path / GOLDEN_FILE)
            infer = _in_batches(session, config.batching.max_batch_size)
            error = replay(golden, infer, card.tolerance(session.provider))
        except CardError as problem:
            raise RepositoryError(f"{path}: {problem}") from problem
        return Evidence(
            card, True, f"verified: {golden.samples} golden samples reproduced, largest difference {error:.2g}"
        )


def _in_batches(session: Session, max_batch_size: int) -> Callable[[Tensors], Tensors]:
    """Returns a function that runs samples in runs no larger than the model allows."""

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


def _zeros(config: ModelConfig, rows: int) -> dict[str, Array] | None:
    """Returns a batch of zeros; None where a free dimension beside the batch's has no size to choose."""
    batches = config.batching.max_batch_size > 0
    shapes = {spec.name: (rows, *spec.shape[1:]) if batches else spec.shape for spec in config.inputs}
    if any(dimension < 0 for shape in shapes.values() for dimension in shape):
        return None
    return {
        spec.name: np.full(shapes[spec.name], "" if spec.datatype.is_bytes else 0, spec.datatype.dtype)
        for spec in config.inputs
    }


def _run_zeros(session: Runner, config: ModelConfig, rows: int) -> None:
    """Computes a batch of zeros; raises whatever the session raises."""
    zeros = _zeros(config, rows)
    if zeros is not None:
        session.run(zeros)
