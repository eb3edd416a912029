"""Finds everything in a repository that would not be served, and what would be served in another way than meant.

It asks the server's own checks, and adds only what these pass over in silence: what lies about and is not looked at,
and what a version is served without.
"""

import contextlib
import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

from pixelserve.card import CARD_FILE, GOLDEN_FILE
from pixelserve.external_data import ExternalDataError, external_files, find_model_file
from pixelserve.scores import OUTPUT_KIND, OUTPUT_KINDS, parameter

from ..engine.scores import scores_output
from ..errors import RepositoryError, ServerError, unreadable
from .aliases import alias_problems
from .compatibility import ignored_fields, warning
from .config import (
    Written,
    examine_config,
    label_problems,
    model_file_name,
    select_versions,
    written_outputs,
)
from .layout import CONFIG_FILE, ModelFolder, Survey, is_version, survey
from .loader import LoadedVersion, Loader
from .output_kind import is_uncertain
from .pbtxt import as_line, line_of
from .selection import choose_versions
from .warmup import WARMUP_FOLDER, warmup_files

_LABELS_FILE = "labels.txt"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong."""

    severity: Literal["error", "warning"]
    """error: something is not served for it; warning: it is served all the same."""
    path: Path
    """The file or folder."""
    line: int | None
    """The line in it, from 1; None: it is about no line."""
    problem: str
    """What was expected, what is there, and what to do."""
    write: str = ""
    """The exact text to write there; empty: there is none to propose."""


@dataclass
class Model:
    """What was found in a model's folder."""

    name: str
    """The model's name; empty: it is the repository as a whole."""
    findings: list[Finding] = field(default_factory=list)
    """All that is wrong, in the order in which it was found."""
    versions: dict[int, str] = field(default_factory=dict)
    """What speaks for each version that would serve, in one sentence."""

    @property
    def would_serve(self) -> bool:
        """Whether all of it would be served that its version policy names."""
        return not any(finding.severity == "error" for finding in self.findings)


@dataclass(frozen=True)
class Report:
    """What was found in a repository."""

    models: tuple[Model, ...]
    """The repository as a whole, where there is anything to say of it, then each model by name."""

    @property
    def findings(self) -> list[Finding]:
        """All that is wrong."""
        return [finding for model in self.models for finding in model.findings]

    @property
    def would_serve(self) -> bool:
        """Whether a server would start on this repository, and serve all of it."""
        return all(model.would_serve for model in self.models)


def examine(repository: Path, loader: Loader, *, quick: bool = False) -> Report:
    """Examines a repository.

    Args:
        repository: folder of models.
        loader: loads versions as the server would.
        quick: whether to read files only, and load nothing.
    """
    whole = Model("")
    try:
        found = survey(repository)
    except RepositoryError as error:
        found = Survey([], [])
        whole.findings.append(_error(error, repository))
    whole.findings += [_stray(folder.path, folder.reason) for folder in found.passed_over]
    whole.findings += _beside_models(repository)
    models = [_Examination(folder, loader, quick=quick).run() for folder in found.models]
    return Report((*([whole] if whole.findings else []), *models))


class _Examination:
    """Of one model."""

    def __init__(self, folder: ModelFolder, loader: Loader, *, quick: bool) -> None:
        self._folder = folder
        self._loader = loader
        self._quick = quick
        self._model = Model(folder.name)
        self._said: set[str] = set()

    def run(self) -> Model:
        """Returns what was found; whatever else happens is an error of this model."""
        try:
            self._run()
        except Exception as error:  # noqa: BLE001  one model's surprise must not hide what is wrong with others
            self._add([error])
        return self._model

    def _run(self) -> None:
        config, errors = examine_config(self._folder)
        self._add(errors)
        self._warn(_ignored(self._folder, config))
        self._warn(_beside_versions(self._folder, config, is_known=config is not None or not errors))
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
            self._warn(_beside_model(path, model_file_name(config)))
            self._warn(_missing_evidence(path, is_required=self._loader.require_card))
            if self._quick:
                self._read(version, config, is_sound=is_sound)
            else:
                self._load(version, config)

    def _examine_all(self, config: Written | None) -> None:
        """Looks at what would be served if the versions could be chosen, for which the model as a whole is refused."""
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
        except Exception as error:  # noqa: BLE001  whatever it is, the server would not serve the version
            # All of them, and then the first one, in case that it is another.
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
        """Keeps what keeps the model from serving, each sentence once."""
        for error in _to_the_end(errors):
            if str(error) not in self._said:
                self._said.add(str(error))
                self._model.findings.append(_error(error, self._folder.path))

    def _warn(self, findings: Iterable[Finding]) -> None:
        self._model.findings += [finding for finding in findings if finding not in self._model.findings]


def _to_the_end(errors: Iterable[Exception]) -> Iterator[Exception]:
    """Yields errors, and last the one that ended the look for them, where one did."""
    try:
        yield from errors
    except Exception as error:  # noqa: BLE001
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


def _stray(path: Path, problem: str, write: str = "") -> Finding:
    return Finding("warning", path, None, problem, write)


def _hidden(path: Path) -> Finding:
    return _stray(path, "hidden, and never looked at; half copied? rename it when it is whole, or remove it")


def _beside_models(repository: Path) -> Iterator[Finding]:
    for entry in _entries(repository):
        if entry.name.startswith("."):
            yield _hidden(entry)
        elif not entry.is_dir():
            yield _stray(entry, "no model's folder, and not looked at; move it away")


def _beside_versions(folder: ModelFolder, config: Written | None, *, is_known: bool) -> Iterator[Finding]:
    """Yields what lies in a model's folder and is not looked at; of files only where it `is_known` which are used."""
    used = {CONFIG_FILE, *(output.label_filename for output in (config.output if config else ()))}
    for entry in _entries(folder.path):
        if entry.name.startswith("."):
            yield _hidden(entry)
        elif entry.is_dir():
            if entry.name == WARMUP_FOLDER and any(warmup_files(config)):
                continue
            if not is_version(entry.name):
                yield _no_version(entry)
        elif is_known and entry.name not in used:
            yield _no_config(folder, entry)


def _no_version(entry: Path) -> Finding:
    number = entry.name.lstrip("0") if entry.name.isdecimal() else ""
    remedy = f"rename it to {number}" if number else "rename it to a positive number, or move it away"
    return _stray(entry, f"no version: a version's folder is a positive number without a leading zero; {remedy}")


def _no_config(folder: ModelFolder, entry: Path) -> Finding:
    if not folder.config_file.exists() and difflib.get_close_matches(entry.name.casefold(), [CONFIG_FILE], cutoff=0.8):
        return _stray(entry, f"not looked at; rename it to {CONFIG_FILE}")
    if entry.name == _LABELS_FILE:
        return _stray(
            entry,
            f"not looked at, since no output in {CONFIG_FILE} names it; name it there",
            f'label_filename: "{_LABELS_FILE}"',
        )
    return _stray(entry, f"not looked at: no file that {CONFIG_FILE} names; move it away")


def _beside_model(version: Path, model_file: str) -> Iterator[Finding]:
    """Yields what lies in a version's folder and is not looked at."""
    model = find_model_file(version, model_file)
    weights = _files_of(model)
    used = {model_file, model.name, CARD_FILE, GOLDEN_FILE, *(weights or ())}
    entries = _entries(version) if model.parent == version else [*_entries(version), *_entries(model.parent)]
    for entry in entries:
        if entry.name.startswith("."):
            yield _hidden(entry)
        elif entry.name in used:
            continue
        elif entry.suffix == ".onnx" and not model.exists():
            problem = f"{model_file} is loaded, and is not there; rename this to it, or name it in {CONFIG_FILE}"
            yield _stray(entry, problem, as_line(Written(default_model_filename=entry.name)))
        elif weights is not None:
            yield _stray(entry, f"not looked at, and {model_file} does not refer to it; move it away")


def _files_of(model: Path) -> set[str] | None:
    """Returns what a model's weights are in beside its graph, as names in the graph's folder; None: it is unknown."""
    if not model.is_file():
        return None
    try:
        return {PurePosixPath(name).parts[0] for name in external_files(model)}
    except (OSError, ExternalDataError):
        # Missing or refused, which the loader's checks report.
        return None


def _missing_evidence(version: Path, *, is_required: bool) -> Iterator[Finding]:
    if not (version / CARD_FILE).is_file():
        if not is_required:
            yield _stray(version, f"no {CARD_FILE}: unverified; `pixelserve export` writes a version with its evidence")
    elif not (version / GOLDEN_FILE).is_file():
        problem = f"no {GOLDEN_FILE} to replay: unverified; export the model with --samples"
        yield _stray(version, problem)


def _missing_labels(folder: ModelFolder, loaded: LoadedVersion) -> Iterator[Finding]:
    """Says of a model that takes pictures that its classes have no names."""
    config, path = loaded.config, folder.config_file
    scores = scores_output(config.outputs)
    if config.pictures is None or scores is None or scores.labels:
        return
    label = f'label_filename: "{_LABELS_FILE}"'
    output = {
        "name": scores.name,
        "data_type": scores.datatype.config_name,
        "dims": scores.shape[1:],
        "label_filename": _LABELS_FILE,
    }
    entry = as_line(Written(output=[output]))
    problem = f"no labels: classes of {scores.name} are numbers; write one a line into {_LABELS_FILE}, and name it here"
    if config.written is None:
        # A configuration without these would change how requests are merged.
        write = f"max_batch_size: {config.batching.max_batch_size} dynamic_batching {{ }} {entry}"
        yield Finding("warning", path, None, problem, write)
        return
    is_listed = any(each.name == scores.name for each in config.written.output)
    yield Finding("warning", path, line_of(path, "output"), problem, label if is_listed else entry)


def _unclear_output(folder: ModelFolder, loaded: LoadedVersion) -> Iterator[Finding]:
    """Yields that a classifier's output kind is not evident, is not what was declared, or is declared in vain."""
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


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        # Whoever must read it says so.
        return []
