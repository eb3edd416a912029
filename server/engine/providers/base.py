"""What an execution provider is, what sessions ask of it, and what it opens."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Protocol

from ..tensors import Array, TensorSpec


@dataclass(frozen=True)
class SessionOptions:
    """Where and how a model computes."""

    device: str = "auto"
    """A provider's key; `gpu`: any provider that computes on a GPU; `auto`: the first provider available here."""
    device_id: int = 0
    """The GPU's number."""
    require_gpu: bool = False
    """Whether computing on the CPU is an error."""
    intra_op_threads: int = 0
    """Threads that compute one run; 0: this session's share of the usable cores."""
    instances: int = 1
    """Sessions that share the usable cores."""
    flags: Mapping[str, bool] = field(default_factory=dict)
    """Settings that one provider defines, by name (`Provider.flags`); a missing one is off."""
    config: Mapping[str, str] = field(default_factory=dict)
    """Further options: entries of ONNX Runtime's session configuration, and a provider's own behind its key and a
    dot. They override ours."""


@dataclass(frozen=True)
class InUse:
    """What a session really uses, which may be less than the options ask."""

    provider: str
    """The name of the execution provider that comes first."""
    device_id: int | None
    """The GPU's number; None on the CPU."""
    threads: int
    """Threads that compute one run, or on a GPU the part of it that the CPU computes."""
    graphs: int
    """Batch sizes that the calling thread replays as captured graphs."""
    notes: tuple[str, ...]
    """What was asked for and is not used, and why: sentences for the log."""


class UnusableError(Exception):
    """Announcing a batch failed and may have left the executor unusable: open it again with `plain`."""


class Executor(Protocol):
    """A model opened by a provider."""

    @property
    def provider(self) -> str:
        """The name of the execution provider that comes first: another one's if the asked one did not answer."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The graph's inputs."""

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The graph's outputs."""

    @property
    def graphs(self) -> int:
        """Batch sizes that the calling thread replays as captured graphs."""

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Computes all outputs of input tensors, both by name; raises whatever the runtime raises."""

    def announce(self, rows: int, inputs: Mapping[str, Array]) -> None:
        """Prepares for batches of `rows` rows (0: the model has no batch dimension) on the thread that will run them.

        Raises:
            UnusableError: see there.
            Exception: the model cannot compute it.
        """

    def release_memory(self, inputs: Mapping[str, Array]) -> None:
        """Releases the memory that larger batches needed, by a run of small inputs."""


class Provider:
    """An execution provider. What differs from these defaults, each provider says in its own file."""

    name: ClassVar[str]
    """ONNX Runtime's name of it, by which cards, metrics and metadata know it."""
    key: ClassVar[str]
    """What `--device` calls it, and the prefix of its own entries of `--session-option`."""
    title: ClassVar[str]
    """What messages call it."""
    distribution: ClassVar[str]
    """The Python distribution that contains it."""
    extra: ClassVar[str]
    """The extra of PixelServe that installs it."""
    on_gpu: ClassVar[bool] = False
    """Whether it computes on a GPU."""
    flags: ClassVar[tuple[str, ...]] = ()
    """Settings that only it reads: its key, an underscore and more."""
    fault_words: ClassVar[tuple[str, ...]] = ()
    """Words by which an error's text shows that the provider failed, and not a request's inputs."""
    row_tolerance: ClassVar[float] = 0.0
    """Largest difference that rounding explains between a row alone and in a batch; 0: the precision decides."""
    new_shapes_are_slow: ClassVar[bool] = False
    """Whether the first run of each shape costs much: then batches are padded to buckets, and all sizes are warmed."""

    def is_available(self) -> bool:
        """Returns whether it is installed here; whether its device answers shows when a model is opened."""
        raise NotImplementedError

    def open(
        self, model: Path, options: SessionOptions, threads: int, note: Callable[[str], None], *, plain: bool = False
    ) -> Executor:
        """Opens a model; where the provider's device does not answer, on the CPU.

        Args:
            model: the ONNX file.
            options: where and how it computes.
            threads: how many compute one run.
            note: receives what was asked for and is not used, in a sentence.
            plain: whether to leave out what a batch cannot be announced with.

        Raises:
            RepositoryError: the file is damaged, or uses something that the runtime does not support.
            StartupError: the runtime does not know an option of the provider.
        """
        raise NotImplementedError

    def may_run_on_arrival(self, options: SessionOptions) -> bool:
        """Returns whether any thread may run a batch, not only the one that announced it."""
        return True

    def own_options(self, options: SessionOptions) -> dict[str, str]:
        """Returns the provider's own entries of the options, without their prefix."""
        prefix = f"{self.key}."
        return {key.removeprefix(prefix): value for key, value in options.config.items() if key.startswith(prefix)}

    def unused(self, options: SessionOptions) -> Iterator[str]:
        """Yields what options ask of this provider, for a model that the CPU computes: sentences for the log."""
        if self.own_options(options):
            yield f"--session-option {self.key}.* is not used: the model is computed on the CPU"


def choose_threads(options: SessionOptions, usable_cores: int) -> int:
    """Returns how many threads compute one run of a session, at least 1."""
    return options.intra_op_threads or max(1, usable_cores // options.instances)
