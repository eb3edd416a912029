"""`train --mlflow`: logs a run to MLflow: settings, figures by epoch, final figures and the report."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .. import frameworks, report
from ..errors import WriteError
from ..progress import say
from . import runs
from .checkpoint import State

# `mlflow ui` shows it in the same folder.
_LOCAL = {"local": "sqlite:///mlflow.db"}
_EXPERIMENT = "pixelserve"


class Tracking:
    """A run's entry in MLflow; see `following.Follower`. An error after the start costs its entry, not the run."""

    def __init__(self, run: Path, uri: str) -> None:
        """`run` is the run's folder, which need not exist yet; `uri` names MLflow's store, or is local."""
        self._run = run
        self._uri = _LOCAL.get(uri, uri)
        self._client: Any = None
        self._id = ""
        self._logged = 0

    def begin(self, state: State) -> None:
        """Makes the entry, with the settings and the epochs before an interruption.

        Raises:
            WriteError: MLflow's store cannot be reached or written.
            MissingLibraryError: MLflow is not installed.
        """
        mlflow = frameworks.load_mlflow()
        try:
            self._client = mlflow.MlflowClient(self._uri)
            found = self._client.get_experiment_by_name(_EXPERIMENT)
            experiment = found.experiment_id if found else self._client.create_experiment(_EXPERIMENT)
            self._id = self._client.create_run(experiment, run_name=self._run.name).info.run_id
            for name, value in _flat(state.settings.model_dump()):
                self._client.log_param(self._id, name, value)
            self._log(state)
        except Exception as error:  # MLflow, SQLAlchemy and requests raise a dozen errors
            raise WriteError(
                f"--mlflow: {self._uri} cannot be written ({_first_line(error)}); give another store, or omit the "
                f"option"
            ) from error
        say(f"logging to MLflow, {self._uri}: run {self._id} of the experiment {_EXPERIMENT}")

    def follow(self, state: State) -> None:
        """Logs an epoch's figures."""
        self._attempt(lambda: self._log(state))

    def finish(self, state: State) -> None:
        """Logs the final figures and the report, and ends the entry."""
        self._attempt(self._log_end)

    def stop(self, state: State) -> None:
        """Ends the entry of a run that was stopped."""
        self._attempt(lambda: self._client.set_terminated(self._id, status="KILLED"))

    def _log(self, state: State) -> None:
        for epoch in range(self._logged, state.epochs):
            for name, values in state.history.items():
                if epoch < len(values):
                    self._client.log_metric(self._id, name, values[epoch], step=epoch + 1)
        self._logged = state.epochs

    def _log_end(self) -> None:
        metrics = json.loads((self._run / runs.METRICS).read_text(encoding="utf-8"))
        for name, value in _final(metrics):
            self._client.log_metric(self._id, name, value)
        self._client.log_artifact(self._id, str(self._run / report.PAGE))
        self._client.set_terminated(self._id)

    def _attempt(self, log: Any) -> None:
        if self._client is None:
            return
        try:
            log()
        except Exception as error:  # noqa: BLE001  as above; a run must not be lost to its log
            self._client = None
            say(f"warning: nothing more is logged to MLflow, {self._uri}: {_first_line(error)}")


def _final(metrics: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yields the final figures: those of a split as test/accuracy, and those of the run."""
    for name, value in metrics.items():
        if isinstance(value, int | float):
            yield name, float(value)
        elif isinstance(value, dict):
            figures = {**value.get("metrics", {}), **(value.get("calibration") or {})}
            yield from (
                (f"{name}/{key}", float(each)) for key, each in figures.items() if isinstance(each, int | float)
            )


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif value is not None:
            yield f"{prefix}{name}", value


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
