"""Reads and writes tuning.json: the engines that were measured to be fastest for a version on this machine.

The file is in the model's folder, beside the versions, because a published version never changes. Its records hold for
one processor, model file and set of libraries each; others are not used, with a reason for the log.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pixelserve.external_data import sha256_of
from pixelserve.precisions import RULES, Processor, this_processor
from pixelserve.text import CONFIG_BYTES, TextError, read_text

from ..engine.cores import usable_cores
from ..engine.providers import PROVIDERS, EngineChoice, openvino_version, runtime_version
from ..errors import RepositoryError
from .layout import ModelFolder

TUNING_FILE = "tuning.json"
_AGAIN = "run `pixelserve autotune` again"


class NotTunedError(Exception):
    """A tuning file does not hold for this version on this machine; the message says why."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Machine(_Part):
    """What a measurement holds for."""

    processor: str = Field(description="name of the processor")
    flags: tuple[str, ...] = Field(description="its flags that decide which engine is fastest")
    cores: int = Field(description="cores that the process could use", ge=1)
    libraries: dict[str, str] = Field(description="version by engine's library")

    @classmethod
    def here(cls, processor: Processor | None = None) -> "Machine":
        """Returns this machine; `processor`: in place of its own."""
        found = processor or this_processor()
        versions = {"onnxruntime": runtime_version(), "openvino": openvino_version()}
        libraries = {name: version for name, version in versions.items() if version}
        return cls(processor=found.name, flags=found.flags, cores=usable_cores(), libraries=libraries)

    def difference(self, other: "Machine", engines: set[str]) -> str:
        """Returns how another machine differs, or empty; libraries count only if they are among `engines`."""
        for name in ("processor", "flags", "cores"):
            ours, theirs = getattr(self, name), getattr(other, name)
            if ours != theirs:
                return f"it was measured with {name} {_words(ours)}, this machine has {_words(theirs)}"
        for library in sorted(engines):
            was, is_now = self.libraries.get(library), other.libraries.get(library)
            if is_now is None:
                return f"{library} is not installed; in PixelServe's clone run: pip install -e '.[{library}]'"
            if was != is_now:
                return f"it was measured with {library} {was}, this is {is_now}"
        return ""


class Engine(_Part):
    """An engine, for batches from some size upwards."""

    engine: Literal["onnxruntime", "openvino"]
    precision: str = Field(description="a key of `pixelserve.precisions.RULES`")
    from_rows: int = Field(ge=1)


class TunedVersion(_Part):
    """What was measured to be fastest for one version."""

    machine: Machine
    model_sha256: str = Field(description="of the model file, in hex")
    engines: tuple[Engine, ...] = Field(min_length=1, description="by ascending batch size, the first from 1")
    threads: int = Field(ge=1, description="threads per run")
    sessions: int = Field(ge=1, le=64, description="sessions, unless config.pbtxt has instance_group")
    buckets: tuple[int, ...] = Field(default=(), description="batch sizes to pad to; empty: none")
    batch_limit: int = Field(default=0, ge=0, description="maximum rows merged into a run; 0: measured at load")
    queue_delay_us: int = Field(default=0, ge=0, description="microseconds to wait for more requests")
    speedup: float = Field(gt=0, description="throughput divided by the default engine's, in the same measurement")
    created: str = Field(description="time of the measurement, ISO 8601, UTC")
    seal: str = Field(default="", description="SHA-256 over all other fields: tells an edited record")

    def sealed(self) -> "TunedVersion":
        """Returns the record with its seal."""
        return self.model_copy(update={"seal": self._digest()})

    @property
    def is_sealed(self) -> bool:
        """Whether the record is as it was written."""
        return self.seal == self._digest()

    @property
    def choices(self) -> tuple[EngineChoice, ...]:
        """The engines as options of sessions."""
        return tuple(EngineChoice(each.engine, each.precision, each.from_rows) for each in self.engines)

    def _digest(self) -> str:
        content = self.model_dump(mode="json", exclude={"seal"})
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


class TuningFile(_Part):
    """tuning.json of a model."""

    schema_version: Literal[1] = 1
    versions: dict[str, TunedVersion] = Field(default_factory=dict, description="by version's number")


def tuning_path(folder: ModelFolder) -> Path:
    """Returns the path of a model's tuning file, which may be missing."""
    return folder.path / TUNING_FILE


def read_tuning(path: Path) -> TuningFile:
    """Reads a tuning file; one without versions if it is missing.

    Raises:
        NotTunedError: it cannot be read, or is not a tuning file.
    """
    if not path.exists():
        return TuningFile()
    try:
        return TuningFile.model_validate_json(read_text(path, CONFIG_BYTES))
    except (OSError, TextError) as error:
        raise NotTunedError(f"{path} cannot be read: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the whole file"
        raise NotTunedError(f"{path}: {field}: {first['msg']}; remove the file, or {_AGAIN}") from error


def write_tuning(path: Path, version: int, tuned: TunedVersion) -> None:
    """Writes a version's record into a tuning file, atomically; other versions' records stay.

    Raises:
        RepositoryError: the file cannot be written.
    """
    try:
        others = read_tuning(path).versions
    except NotTunedError:
        # What cannot be read is of no use to a server either.
        others = {}
    file = TuningFile(versions={**others, str(version): tuned})
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_text(file.model_dump_json(indent=2) + "\n", encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise RepositoryError(
            f"cannot be written: {error.strerror or error}; give another with --output", path=path
        ) from error


def tuned_version(folder: ModelFolder, version: int, model: Path, here: Machine | None = None) -> TunedVersion:
    """Returns what was measured to be fastest for a version, if that holds here.

    Args:
        folder: the model's folder.
        version: the version's number.
        model: its model file.
        here: this machine; None: found out.

    Raises:
        NotTunedError: it was not measured, or not for this machine and file.
    """
    path = tuning_path(folder)
    tuned = read_tuning(path).versions.get(str(version))
    if tuned is None:
        raise NotTunedError(
            f"{path} has no record of version {version}; `pixelserve autotune {folder.name}` writes one"
        )
    if not tuned.is_sealed:
        raise NotTunedError(f"{path} was edited after it was measured; {_AGAIN}")
    if problem := _problem(tuned):
        raise NotTunedError(f"{path}: {problem}; {_AGAIN}")
    engines: set[str] = {each.engine for each in tuned.engines}
    if difference := tuned.machine.difference(here or Machine.here(), engines):
        raise NotTunedError(f"{path}: {difference}; {_AGAIN}")
    try:
        found = sha256_of(model)
    except OSError as error:
        raise NotTunedError(f"{model} cannot be read: {error}") from error
    if found != tuned.model_sha256:
        raise NotTunedError(f"{path}: it was measured with another model file; {_AGAIN}")
    return tuned


def _problem(tuned: TunedVersion) -> str:
    """Returns what no measurement writes, or empty: a seal shows accidents, not intent."""
    native = {engine: {"float32"} for engine in (provider.engine for provider in PROVIDERS)}
    for provider in PROVIDERS:
        native[provider.engine] |= set(provider.precisions())
    sizes = [each.from_rows for each in tuned.engines]
    if sizes[0] != 1 or sizes != sorted(set(sizes)):
        return f"its engines begin at {sizes} rows; expected 1 and ascending"
    for each in tuned.engines:
        if each.precision not in RULES or each.precision not in native[each.engine]:
            return f"{each.engine} does not compute {each.precision} natively on this processor"
    return ""


def _words(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
