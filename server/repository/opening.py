"""Opens the sessions of one version on the devices of its instance groups, at load and to replace a broken one."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ..engine.providers import SessionOptions
from ..engine.reshape import Reshape
from ..engine.session import Session
from ..errors import StartupError
from .config import Written, read_reshapes
from .layout import ModelFolder
from .pbtxt import error_at
from .scheduling import Placement, read_instances


@dataclass(frozen=True)
class Opener:
    """Opens sessions of one model file."""

    folder: ModelFolder
    """The model's folder."""
    model: Path
    """The model file."""
    options: SessionOptions
    """How models compute, and on what device."""
    reshapes: Mapping[str, Reshape]
    """Tensors whose shape for clients differs from the graph's."""
    placements: tuple[Placement, ...]
    """The device of each session."""

    @classmethod
    def of(
        cls, folder: ModelFolder, model: Path, config: Written | None, options: SessionOptions, *, sessions: int = 1
    ) -> "Opener":
        """Returns an opener for the sessions of a config.pbtxt, which may be None.

        Args:
            folder: the model's folder.
            model: the model file.
            config: its config.pbtxt.
            options: how models compute, and on what device.
            sessions: how many to open if it has no instance_group.

        Raises:
            RepositoryError: an instance group is not supported.
        """
        placements = read_instances(folder, config)
        if config is None or not config.instance_group:
            placements *= sessions
        return cls(folder, model, options, read_reshapes(config), placements)

    def open(self, placement: Placement) -> Session:
        """Opens a session.

        Raises:
            RepositoryError: the model file is unusable, or the model needs a GPU and there is none.
            StartupError: the settings select or require a GPU, and the model would run on the CPU.
        """
        options = replace(self.options, instances=len(self.placements))
        # If the settings name a GPU provider, models may require it.
        on_any_gpu = placement.device == "gpu" and self.options.device not in ("auto", "cpu")
        if placement.device != "auto" and not on_any_gpu:
            options = replace(options, device=placement.device)
        if placement.device_id is not None:
            options = replace(options, device_id=placement.device_id)
        try:
            return Session(self.model, options, self.reshapes)
        except StartupError as error:
            if placement.device != "gpu" or on_any_gpu or self.options.require_gpu:
                raise
            # The model requires it, not a setting.
            problem = "instance_group requires a GPU, but no GPU or GPU library was found; check nvidia-smi"
            raise error_at(self.folder.config_file, "instance_group.kind", problem, "kind: KIND_AUTO") from error
