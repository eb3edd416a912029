"""Tells metrics, health and the log what becomes of models."""

from collections.abc import Callable
from typing import Any, Protocol

from ..engine.providers import runtime_version
from ..errors import RepositoryError
from ..repository.compatibility import ignored_fields, warning
from ..repository.layout import CONFIG_FILE, PassedOver
from ..repository.loader import LoadedVersion
from .logs import Log
from .metrics import Metrics
from .predictions import Predictions, is_watched

_BUDGETS = {"time": "--warmup-s", "memory": "--warmup-mib"}


class ModelHealth(Protocol):
    """Is told which models serve."""

    def report_model(self, model: str, *, serving: bool) -> None:
        """Says of one model whether it serves."""


class ModelEvents:
    """The repository manager's listener."""

    def __init__(
        self, metrics: Metrics, health: ModelHealth, log: Log, is_ready: Callable[[str], bool], *, drift_window: int
    ) -> None:
        """Stores what it is handed.

        Args:
            metrics: the figures.
            health: who serves.
            log: what happened.
            is_ready: says whether any version of a model serves.
            drift_window: how many of a version's last predictions are held against its card; 0: none are looked at.
        """
        self._drift_window = drift_window
        self._metrics = metrics
        self._health = health
        self._log = log
        self._is_ready = is_ready
        # What was said of each model's config.pbtxt: once, however many versions it has and however often they change.
        self._ignored: dict[str, list[str]] = {}

    def on_progress(self, name: str, version: int, step: str, elapsed_s: float) -> None:
        """Tells what a load that takes long is doing."""
        self._log.info("model loading", model=name, version=version, step=step, elapsed_s=round(elapsed_s, 1))

    def on_loaded(self, loaded: LoadedVersion) -> None:
        """Tells of a version that takes requests."""
        self._metrics.loaded(
            loaded.name,
            loaded.version,
            provider=loaded.provider,
            verified=loaded.evidence.verified,
            load_s=loaded.load_s,
            batch_limit=lambda: loaded.batch_limit,
            row_state=lambda: loaded.row_state,
            queue_limit=loaded.config.batching.queue.max_queue_size,
            curve=loaded.curve,
            predictions=self._predictions(loaded),
        )
        self._metrics.watch_queue(loaded.name, loaded.version, lambda: loaded.batcher.waiting)
        self._health.report_model(loaded.name, serving=True)
        emit = self._log.info if loaded.evidence.verified else self._log.warning
        emit(
            "model loaded",
            model=loaded.name,
            version=loaded.version,
            provider=loaded.provider,
            device_id=loaded.in_use.device_id,
            threads=loaded.in_use.threads,
            graphs=loaded.in_use.graphs,
            runtime=runtime_version(),
            evidence=loaded.evidence.summary,
            load_s=round(loaded.load_s, 3),
            output_kind=loaded.scores.kind if loaded.scores else None,
            **_tuning(loaded),
        )
        for note in loaded.in_use.notes:
            self._log.warning("not as asked", model=loaded.name, version=loaded.version, reason=note)
        if loaded.unmerged:
            self.on_unmerged(loaded.name, loaded.version, loaded.unmerged)
        self._warn_of_ignored(loaded)

    def on_unmerged(self, name: str, version: int, reason: str) -> None:
        """Tells of a version whose requests are computed one by one from now on."""
        self._log.warning("requests are not merged", model=name, version=version, reason=reason)

    def _warn_of_ignored(self, loaded: LoadedVersion) -> None:
        names = [use.name for use in ignored_fields(loaded.config.written)]
        if names and names != self._ignored.get(loaded.name):
            self._log.warning("not as asked", model=loaded.name, reason=f"{CONFIG_FILE}: {warning(names)}")
        self._ignored[loaded.name] = names

    def on_other_output(self, model: str, version: int, reason: str) -> None:
        """Tells that a version's output is not what it was declared or taken to be."""
        self._log.warning("output kind", model=model, version=version, reason=reason)

    def _predictions(self, loaded: LoadedVersion) -> Predictions | None:
        reader = loaded.scores
        if reader is None or not is_watched(reader) or not self._drift_window:
            return None
        card = loaded.evidence.card
        return Predictions(reader, card.baseline if card else None, self._drift_window)

    def on_failed(self, name: str, version: int, error: RepositoryError) -> None:
        """Tells of a version, or of a model as a whole (0), that cannot be served."""
        self._metrics.load_failed(name, version)
        self._health.report_model(name, serving=self._is_ready(name))
        self._log.error("model failed to load", model=name, version=version or None, reason=str(error))

    def on_passed_over(self, folder: PassedOver) -> None:
        """Tells of a folder that is not taken for a model."""
        self._log.warning("folder passed over", folder=str(folder.path), reason=folder.reason)

    def on_unloaded(self, loaded: LoadedVersion, *, replaced: bool, finished: bool) -> None:
        """Tells of a version that has gone."""
        if not replaced:
            self._metrics.unloaded(loaded.name, loaded.version)
            self._health.report_model(loaded.name, serving=self._is_ready(loaded.name))
        emit = self._log.info if finished else self._log.error
        emit("model unloaded", model=loaded.name, version=loaded.version, replaced=replaced, finished=finished)


def _tuning(loaded: LoadedVersion) -> dict[str, Any]:
    """Returns how a version's requests will be merged, for the log."""
    buckets, curve = loaded.config.batching.buckets, loaded.curve
    run_ns = curve.run_ns(1)
    tuning: dict[str, Any] = {"batch_limit": loaded.batch_limit}
    if curve.stop in ("time", "memory"):
        tuning |= {"measured_up_to": curve.sizes[-1], "measuring_ended_by": _BUDGETS[curve.stop]}
    if buckets:
        tuning["buckets"] = buckets
    if run_ns is not None:
        tuning["one_image_us"] = round(run_ns / 1e3, 1)
    return tuning
