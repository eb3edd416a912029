"""The interface of execution providers, and the options of sessions."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Protocol

from ..tensors import Array, TensorSpec


@dataclass(frozen=True)
class EngineChoice:
    """An engine, for batches from some size upwards."""

    engine: str = "onnxruntime"
    """The library that computes: a provider's `engine`."""
    precision: str = "float32"
    """What it computes float32 tensors in: a key of `pixelserve.precisions.RULES`."""
    from_rows: int = 1
    """The smallest batch that it computes, in rows."""


DEFAULT_ENGINES = (EngineChoice(),)
"""What computes unless the operator decides otherwise."""


@dataclass(frozen=True)
class SessionOptions:
    """Where and how a model runs."""

    engines: tuple[EngineChoice, ...] = DEFAULT_ENGINES
    """What computes, by ascending batch size; the first is for batches from 1 row upwards."""
    device: str = "auto"
    """A provider's `device`; `gpu`: any provider that computes on a GPU; `auto`: the first provider available here."""
    device_id: int = 0
    """The GPU's number."""
    require_gpu: bool = False
    """Whether running on the CPU is an error."""
    intra_op_threads: int = 0
    """Threads per run; 0: this session's share of the usable cores."""
    instances: int = 1
    """Sessions that share the usable cores."""
    flags: Mapping[str, bool] = field(default_factory=dict)
    """Settings that one provider defines, by name (`Provider.flags`); a missing one is off."""
    config: Mapping[str, str] = field(default_factory=dict)
    """More options, which override ours: entries of ONNX Runtime's session configuration, and a provider's own,
    prefixed with its key and a dot."""

    @property
    def engine(self) -> EngineChoice:
        """What computes the largest batches."""
        return self.engines[-1]


@dataclass(frozen=True)
class InUse:
    """What a session actually uses, which may be less than requested."""

    provider: str
    """Name of the first execution provider."""
    engine: str
    """The libraries that compute, joined by + from small to large batches."""
    precision: str
    """What each computes float32 tensors in, joined likewise."""
    device_id: int | None
    """The GPU's number; None on the CPU."""
    threads: int
    """CPU threads per run."""
    graphs: int
    """Number of batch sizes that the calling thread replays as captured graphs."""
    notes: tuple[str, ...]
    """Why requested features are not used: sentences for the log."""


class UnusableError(Exception):
    """Announcing a batch failed and may have made the executor unusable: open it again with `plain`."""


class Executor(Protocol):
    """A model opened by a provider."""

    @property
    def provider(self) -> str:
        """Name of the first execution provider; not the requested one if that did not respond."""

    @property
    def precisions(self) -> tuple[str, ...]:
        """What it computes float32 tensors in: one, or one per range of batch sizes, from small to large."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The graph's inputs."""

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The graph's outputs."""

    @property
    def graphs(self) -> int:
        """Number of batch sizes that the calling thread replays as captured graphs."""

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Computes all outputs from inputs, both by name; raises the runtime's errors."""

    def announce(self, rows: int, inputs: Mapping[str, Array]) -> None:
        """Prepares for batches of `rows` rows (0: the model has no batch dimension) on the thread that will run them.

        Raises:
            UnusableError: the executor may be unusable.
            Exception: the model cannot run it.
        """

    def release_memory(self, inputs: Mapping[str, Array]) -> None:
        """Releases the memory of larger batches, by a run of small inputs."""


class Provider:
    """An execution provider: an engine on a kind of device. Each overrides these defaults in its own file."""

    name: ClassVar[str]
    """Its name in ONNX Runtime, if that is its engine, and in cards, metrics and metadata."""
    key: ClassVar[str]
    """The prefix of its entries of `--session-option`."""
    device: ClassVar[str]
    """The value of `--device` for where it computes."""
    engine: ClassVar[str] = "onnxruntime"
    """The library that computes: its value of `--engine`."""
    title: ClassVar[str]
    """Its name in messages."""
    distribution: ClassVar[str]
    """The Python distribution that contains it."""
    extra: ClassVar[str]
    """The extra of PixelServe that installs it."""
    on_gpu: ClassVar[bool] = False
    """Whether it runs on a GPU."""
    flags: ClassVar[tuple[str, ...]] = ()
    """Settings that only it uses; their names start with its key and an underscore."""
    fault_words: ClassVar[tuple[str, ...]] = ()
    """Words in an error's text that indicate a failure of the provider rather than invalid inputs."""
    row_tolerance: ClassVar[float] = 0.0
    """Maximum rounding difference between a row alone and in a batch; 0: depends on the precision."""
    new_shapes_are_slow: ClassVar[bool] = False
    """Whether the first run of a shape is expensive; if so, batches are padded to buckets and all are warmed."""

    def is_available(self) -> bool:
        """Returns whether it is installed; opening a model shows whether its device responds."""
        raise NotImplementedError

    def open(
        self, model: Path, options: SessionOptions, threads: int, note: Callable[[str], None], *, plain: bool = False
    ) -> Executor:
        """Opens a model, on the CPU if the provider's device does not respond.

        Args:
            model: the ONNX file.
            options: where and how it runs.
            threads: threads per run.
            note: receives a sentence for each requested feature that is not used.
            plain: whether to disable features that made announcing a batch fail.

        Raises:
            RepositoryError: the file is damaged or not supported by the runtime.
            StartupError: the runtime does not know a provider option.
        """
        raise NotImplementedError

    def precisions(self) -> tuple[str, ...]:
        """Returns what it computes natively on this machine, keys of `pixelserve.precisions.RULES`; empty if it is not
        available. A precision that is converted to float32 and back is missing: it would be slower and less exact."""
        return ("float32",) if self.is_available() else ()

    def may_run_on_arrival(self, options: SessionOptions) -> bool:
        """Returns whether any thread may run a batch, not only the one that announced it."""
        return True

    def own_options(self, options: SessionOptions) -> dict[str, str]:
        """Returns the provider's own entries of the options, without their prefix."""
        prefix = f"{self.key}."
        return {key.removeprefix(prefix): value for key, value in options.config.items() if key.startswith(prefix)}

    def unused(self, options: SessionOptions) -> Iterator[str]:
        """Yields sentences for the log about options that are not used because the model runs on the CPU."""
        if self.own_options(options):
            yield f"--session-option {self.key}.* is not used: the model is computed by ONNX Runtime on the CPU"


def choose_threads(options: SessionOptions, usable_cores: int) -> int:
    """Returns the threads per run of a session, at least 1."""
    return options.intra_op_threads or max(1, usable_cores // options.instances)
