"""Reports changes of models to metrics, health and the log."""

from collections.abc import Callable
from typing import Any, Protocol

from ..engine.providers import openvino_version, runtime_version
from ..errors import RepositoryError
from ..repository.compatibility import ignored_fields, warning
from ..repository.layout import CONFIG_FILE, PassedOver
from ..repository.loaded import LoadedVersion
from .logs import Log
from .metrics import Metrics
from .predictions import Predictions, is_tracked

_BUDGETS = {"time": "--warmup-s", "memory": "--warmup-mib"}


class ModelHealth(Protocol):
    """Receives which models serve."""

    def report_model(self, model: str, *, serving: bool) -> None:
        """Reports whether a model serves."""


class ModelEvents:
    """The repository manager's listener.

    Args:
        metrics: receives figures.
        health: receives which models serve.
        log: receives events.
        is_ready: returns whether any version of a model serves.
        drift_window: number of a version's last predictions to compare with its card; 0: none.
    """

    def __init__(
        self, metrics: Metrics, health: ModelHealth, log: Log, is_ready: Callable[[str], bool], *, drift_window: int
    ) -> None:
        self._drift_window = drift_window
        self._metrics = metrics
        self._health = health
        self._log = log
        self._is_ready = is_ready
        # Warnings logged per model's config.pbtxt: once, whatever its versions and however often they change.
        self._ignored: dict[str, list[str]] = {}

    def on_progress(self, name: str, version: int, step: str, elapsed_s: float) -> None:
        """A slow load reports its step."""
        self._log.info("model loading", model=name, version=version, step=step, elapsed_s=round(elapsed_s, 1))

    def on_loaded(self, loaded: LoadedVersion) -> None:
        """A version became ready."""
        self._metrics.loaded(
            loaded.name,
            loaded.version,
            provider=loaded.provider,
            engine=loaded.in_use.engine,
            precision=loaded.precision,
            verified=loaded.evidence.verified,
            load_s=loaded.load_s,
            batch_limit=lambda: loaded.batch_limit,
            row_state=lambda: loaded.row_state,
            queue_limit=loaded.config.batching.queue.max_queue_size,
            curve=loaded.curve,
            predictions=self._predictions(loaded),
            target=lambda: loaded.batcher.target_state,
        )
        self._metrics.register_queue(loaded.name, loaded.version, lambda: loaded.batcher.waiting)
        self._health.report_model(loaded.name, serving=True)
        emit = self._log.info if loaded.evidence.verified else self._log.warning
        emit(
            "model loaded",
            model=loaded.name,
            version=loaded.version,
            provider=loaded.provider,
            engine=loaded.in_use.engine,
            precision=loaded.precision,
            device_id=loaded.in_use.device_id,
            threads=loaded.in_use.threads,
            graphs=loaded.in_use.graphs,
            runtime=runtime_version(),
            **({"openvino": openvino_version()} if "openvino" in loaded.in_use.engine else {}),
            evidence=loaded.evidence.summary,
            load_s=round(loaded.load_s, 3),
            output_kind=loaded.scores.kind if loaded.scores else None,
            **_tuning(loaded),
        )
        for note in loaded.in_use.notes:
            self._log.warning("not as asked", model=loaded.name, version=loaded.version, reason=note)
        if problem := _unkept_target(loaded):
            self._log.warning("not as asked", model=loaded.name, version=loaded.version, reason=problem)
        if loaded.unmerged:
            self.on_unmerged(loaded.name, loaded.version, loaded.unmerged)
        self._warn_of_ignored(loaded)

    def on_unmerged(self, name: str, version: int, reason: str) -> None:
        """A version's requests are no longer merged."""
        self._log.warning("requests are not merged", model=name, version=version, reason=reason)

    def on_untuned(self, name: str, version: int, reason: str) -> None:
        """A version computes with the default engine although the settings ask for the fastest."""
        self._log.warning("default engine", model=name, version=version, reason=reason)

    def _warn_of_ignored(self, loaded: LoadedVersion) -> None:
        names = [use.name for use in ignored_fields(loaded.config.written)]
        if names and names != self._ignored.get(loaded.name):
            self._log.warning("not as asked", model=loaded.name, reason=f"{CONFIG_FILE}: {warning(names)}")
        self._ignored[loaded.name] = names

    def on_other_output(self, model: str, version: int, reason: str) -> None:
        """A version's output contradicts its declared or detected kind."""
        self._log.warning("output kind", model=model, version=version, reason=reason)

    def _predictions(self, loaded: LoadedVersion) -> Predictions | None:
        reader = loaded.scores
        if reader is None or not is_tracked(reader) or not self._drift_window:
            return None
        card = loaded.evidence.card
        return Predictions(reader, card.baseline if card else None, self._drift_window)

    def on_failed(self, name: str, version: int, error: RepositoryError) -> None:
        """A version, or a whole model (0), cannot be served."""
        self._metrics.load_failed(name, version)
        self._health.report_model(name, serving=self._is_ready(name))
        self._log.error("model failed to load", model=name, version=version or None, reason=str(error))

    def on_passed_over(self, folder: PassedOver) -> None:
        """A folder of the repository is not a model."""
        self._log.warning("folder passed over", folder=str(folder.path), reason=folder.reason)

    def on_unloaded(self, loaded: LoadedVersion, *, replaced: bool, finished: bool) -> None:
        """A version was unloaded."""
        if not replaced:
            self._metrics.unloaded(loaded.name, loaded.version)
            self._health.report_model(loaded.name, serving=self._is_ready(loaded.name))
        emit = self._log.info if finished else self._log.error
        emit("model unloaded", model=loaded.name, version=loaded.version, replaced=replaced, finished=finished)


def _unkept_target(loaded: LoadedVersion) -> str:
    """Returns why a version cannot keep its latency target; empty if it can, or has none."""
    state, run_ns = loaded.batcher.target_state, loaded.curve.run_ns(1)
    if state is None:
        return ""
    target_ms = state.target_s * 1e3
    if run_ns is None:
        return f"the latency target of {target_ms:g} ms is not kept: no run time was measured; see --warmup-s"
    if run_ns > target_ms * 1e6:
        return (
            f"the latency target of {target_ms:g} ms cannot be kept, so every request is refused: one row takes "
            f"{run_ns / 1e6:.1f} ms; raise target_p99_ms in config.pbtxt or --target-p99-ms"
        )
    return ""


def _tuning(loaded: LoadedVersion) -> dict[str, Any]:
    """Returns a version's batching parameters, for the log."""
    buckets, curve = loaded.config.batching.buckets, loaded.curve
    run_ns = curve.run_ns(1)
    tuning: dict[str, Any] = {"batch_limit": loaded.batch_limit}
    if curve.stop in ("time", "memory"):
        tuning |= {"measured_up_to": curve.sizes[-1], "measuring_ended_by": _BUDGETS[curve.stop]}
    if buckets:
        tuning["buckets"] = buckets
    if state := loaded.batcher.target_state:
        tuning["target_p99_ms"] = round(state.target_s * 1e3, 3)
    if run_ns is not None:
        tuning["one_image_us"] = round(run_ns / 1e3, 1)
    return tuning
