"""Finds everything in a repository that would not be served, or not as intended.

It runs the server's own checks, and adds what they silently ignore: stray files, and what a version lacks.
"""

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from pixelserve.card import CARD_FILE, GOLDEN_FILE
from pixelserve.scores import OUTPUT_KIND, OUTPUT_KINDS, parameter

from ..engine.scores import scores_output
from ..errors import RepositoryError, ServerError, unreadable
from ..repository.aliases import alias_problems
from ..repository.compatibility import ignored_fields, warning
from ..repository.config import (
    Written,
    examine_config,
    label_problems,
    model_file_name,
    select_versions,
    written_outputs,
)
from ..repository.layout import ModelFolder, Survey, survey
from ..repository.loaded import LoadedVersion
from ..repository.loader import Loader
from ..repository.output_kind import is_uncertain
from ..repository.pbtxt import as_line, line_of
from ..repository.selection import choose_versions
from .findings import Finding, Model, Report
from .strays import LABELS_FILE, beside_model, beside_models, beside_versions, stray


def examine(repository: Path, loader: Loader, *, quick: bool = False) -> Report:
    """Examines a repository.

    Args:
        repository: folder of models.
        loader: loads versions as the server would.
        quick: whether to read files only, without loading models.
    """
    whole = Model("")
    try:
        found = survey(repository)
    except RepositoryError as error:
        found = Survey([], [])
        whole.findings.append(_error(error, repository))
    whole.findings += [stray(folder.path, folder.reason) for folder in found.passed_over]
    whole.findings += beside_models(repository)
    models = [_Examination(folder, loader, quick=quick).run() for folder in found.models]
    return Report((*([whole] if whole.findings else []), *models))


class _Examination:
    """Examines one model."""

    def __init__(self, folder: ModelFolder, loader: Loader, *, quick: bool) -> None:
        self._folder = folder
        self._loader = loader
        self._quick = quick
        self._model = Model(folder.name)
        self._said: set[str] = set()

    def run(self) -> Model:
        """Returns the findings; unexpected errors count as findings of this model."""
        try:
            self._run()
        except Exception as error:  # noqa: BLE001  one model's unexpected error must not hide problems of others
            self._add([error])
        return self._model

    def _run(self) -> None:
        config, errors = examine_config(self._folder)
        self._add(errors)
        self._warn(_ignored(self._folder, config))
        self._warn(beside_versions(self._folder, config, is_known=config is not None or not errors))
        try:
            versions = choose_versions(self._folder, config).versions
        except (RepositoryError, OSError) as error:
            self._add([error])
            self._examine_all(config)
            return
        if self._quick and config is not None:
            self._add(label_problems(self._folder, config, written_outputs(config)))
        is_sound = not self._said
        for version in versions:
            path = self._folder.version_path(version)
            self._warn(beside_model(path, model_file_name(config)))
            self._warn(_missing_evidence(path, is_required=self._loader.require_card))
            if self._quick:
                self._read(version, config, is_sound=is_sound)
            else:
                self._load(version, config)

    def _examine_all(self, config: Written | None) -> None:
        """Examines all versions on disk if the served ones cannot be chosen, so the whole model is refused."""
        with contextlib.suppress(OSError):
            versions = self._folder.versions()
            self._add(alias_problems(self._folder, config, versions))
            for version in select_versions(config, versions):
                self._add(self._loader.examine(self._folder, version, config, quick=self._quick))

    def _read(self, version: int, config: Written | None, *, is_sound: bool) -> None:
        before = len(self._said)
        self._add(self._loader.examine(self._folder, version, config, quick=True))
        if is_sound and len(self._said) == before:
            self._model.versions[version] = "as far as its files say; it was not loaded"

    def _load(self, version: int, config: Written | None) -> None:
        try:
            loaded = self._loader.load(self._folder, version)
        except Exception as error:  # noqa: BLE001  after any error, the server would not serve the version
            # All of them, then the raised one, in case it is another.
            self._add(self._loader.examine(self._folder, version, config))
            self._add([error])
            return
        loaded.batcher.drain()
        self._model.versions[version] = loaded.evidence.summary
        self._warn(_missing_labels(self._folder, loaded))
        self._warn(_unclear_output(self._folder, loaded))
        if loaded.unmerged:
            self._warn([Finding("warning", self._folder.version_path(version), None, loaded.unmerged)])
        self._warn(Finding("warning", self._folder.version_path(version), None, note) for note in loaded.in_use.notes)

    def _add(self, errors: Iterable[Exception]) -> None:
        """Adds errors, each sentence once."""
        for error in _to_the_end(errors):
            if str(error) not in self._said:
                self._said.add(str(error))
                self._model.findings.append(_error(error, self._folder.path))

    def _warn(self, findings: Iterable[Finding]) -> None:
        self._model.findings += [finding for finding in findings if finding not in self._model.findings]


def _to_the_end(errors: Iterable[Exception]) -> Iterator[Exception]:
    """Yields errors, and last the one that ended the iteration, if any."""
    try:
        yield from errors
    except Exception as error:  # noqa: BLE001  a finding like the others
        yield error


def _error(error: Exception, where: Path) -> Finding:
    if isinstance(error, RepositoryError):
        return Finding("error", error.path or where, error.line, error.problem, error.write)
    if isinstance(error, OSError) and error.filename:
        return Finding("error", Path(error.filename), None, unreadable(Path(error.filename), error).problem)
    said = str(error) if isinstance(error, ServerError) else f"unexpected failure: {type(error).__name__}: {error}"
    return Finding("error", where, None, said)


def _ignored(folder: ModelFolder, config: Written | None) -> Iterator[Finding]:
    path = folder.config_file
    for use in ignored_fields(config):
        yield Finding("warning", path, line_of(path, use.place), f"{warning([use.name])}: {use.rule.reason}")


def _missing_evidence(version: Path, *, is_required: bool) -> Iterator[Finding]:
    if not (version / CARD_FILE).is_file():
        if not is_required:
            yield stray(version, f"no {CARD_FILE}: unverified; `pixelserve export` writes a version with its evidence")
    elif not (version / GOLDEN_FILE).is_file():
        problem = f"no {GOLDEN_FILE} to replay: unverified; export the model with --samples"
        yield stray(version, problem)


def _missing_labels(folder: ModelFolder, loaded: LoadedVersion) -> Iterator[Finding]:
    """Yields that the classes of a picture model have no labels."""
    config, path = loaded.config, folder.config_file
    scores = scores_output(config.outputs)
    if config.pictures is None or scores is None or scores.labels:
        return
    label = f'label_filename: "{LABELS_FILE}"'
    output = {
        "name": scores.name,
        "data_type": scores.datatype.config_name,
        "dims": scores.shape[1:],
        "label_filename": LABELS_FILE,
    }
    entry = as_line(Written(output=[output]))
    problem = f"no labels: classes of {scores.name} are numbers; write one a line into {LABELS_FILE}, and name it here"
    if config.written is None:
        # A configuration without this would change how requests are merged.
        write = f"max_batch_size: {config.batching.max_batch_size} dynamic_batching {{ }} {entry}"
        yield Finding("warning", path, None, problem, write)
        return
    is_listed = any(each.name == scores.name for each in config.written.output)
    yield Finding("warning", path, line_of(path, "output"), problem, label if is_listed else entry)


def _unclear_output(folder: ModelFolder, loaded: LoadedVersion) -> Iterator[Finding]:
    """Yields that a classifier's output kind is unclear, contradicts its declaration, or is declared without effect."""
    reader, config, path = loaded.scores, loaded.config, folder.config_file
    line = line_of(path, f'parameters["{OUTPUT_KIND}"]')
    if reader is None and config.output_kind is not None:
        problem = (
            f"parameter {OUTPUT_KIND} has no effect: it is for a model with one output of floats [rows, classes], or "
            f"one such output with labels; remove it"
        )
        yield Finding("warning", path, line, problem)
    if reader is None or not is_uncertain(reader) or not (reader.output.labels or config.pictures):
        return
    problem = (
        f"{reader.output.name} is taken for {reader.kind}: {reader.reason}; declare what it is, one of "
        f"{', '.join(OUTPUT_KINDS)}: logits if a softmax turns it into probabilities (docs/output-kind.md)"
    )
    write = parameter("sigmoids" if reader.kind == "probabilities" else "logits")
    if config.written is None:
        write = f"max_batch_size: {config.batching.max_batch_size} dynamic_batching {{ }} {write}"
    yield Finding("warning", path, line, problem, write)
