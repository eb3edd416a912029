"""Loads one version of a model and makes it prove itself before it serves."""

import time
from collections.abc import Callable
from dataclasses import dataclass
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
from ..engine.session import Session
from ..engine.tensors import Array
from ..errors import RepositoryError
from .config import Defaults, ModelConfig, model_file_name, read_config, settle
from .layout import ModelFolder


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
    load_s: float
    """Seconds that loading, replaying and warming took."""

    @property
    def name(self) -> str:
        """The model's name."""
        return self.config.name


@dataclass(frozen=True)
class Loader:
    """Turns version folders into `LoadedVersion`s."""

    device: str
    """auto, cpu or cuda."""
    intra_op_threads: int
    """Threads that compute one run; 0: as many as there are usable cores."""
    defaults: Defaults
    """What holds where config.pbtxt is silent."""
    require_card: bool
    """Whether a version without a card is refused."""
    observer: Callable[[str, int], Observer]
    """Gives the observer of a model's version."""
    log_failure: Callable[[BaseException], str]
    """Logs whatever a session raises while it serves, and returns the id under which it did."""

    def load(self, folder: ModelFolder, version: int) -> LoadedVersion:
        """Loads a version, checks its evidence, warms it and starts its batcher.

        Raises:
            RepositoryError: the version cannot be served; the message names the file and the remedy.
            StartupError: CUDA is asked for and no GPU answers.
        """
        start_s = time.monotonic()
        path = folder.version_path(version)
        proto = read_config(folder)
        model = path / model_file_name(proto)
        session = Session(model, device=self.device, intra_op_threads=self.intra_op_threads)
        config = settle(folder, proto, session.inputs, session.outputs, self.defaults)
        evidence = self._examine(path, model, session, config)
        _warm(model, session, config)
        batcher = Batcher(
            f"{folder.name} version {version}",
            session,
            config.batching,
            self.observer(folder.name, version),
            self.log_failure,
        )
        batcher.start()
        return LoadedVersion(config, version, session.provider, evidence, batcher, time.monotonic() - start_s)

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


def _warm(model: Path, session: Session, config: ModelConfig) -> None:
    """Runs the smallest and the largest batch once, so that no request pays for the first allocation."""
    largest = config.batching.max_batch_size
    for rows in sorted({1, largest} - {0}):
        shapes = {spec.name: (rows, *spec.shape[1:]) if largest else spec.shape for spec in config.inputs}
        # A free dimension beside the batch's has no size to warm.
        if any(dimension < 0 for shape in shapes.values() for dimension in shape):
            return
        zeros: dict[str, Array] = {
            spec.name: np.full(shapes[spec.name], "" if spec.datatype.is_bytes else 0, spec.datatype.dtype)
            for spec in config.inputs
        }
        try:
            session.run(zeros)
        except Exception as error:
            raise RepositoryError(f"{model}: cannot compute {rows} rows: {error}; export the model again") from error
