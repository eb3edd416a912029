"""The machine's GPUs, from NVIDIA's management library (NVML)."""

import contextlib
from dataclasses import dataclass
from types import ModuleType


@dataclass(frozen=True)
class Gpu:
    """The state of one GPU."""

    uuid: str
    """Its UUID, such as GPU-2c1f…."""
    utilization: float
    """Fraction of recent time in which it was busy, 0 to 1."""
    memory_total_bytes: int
    """Total memory in bytes."""
    memory_used_bytes: int
    """Memory in use by all processes, in bytes."""


class Gpus:
    """Reads all GPUs of this machine; none without NVML. Thread-safe."""

    def __init__(self) -> None:
        """Opens NVML if it is installed."""
        self._nvml = _opened()

    def read(self) -> list[Gpu]:
        """Returns the state of each GPU that answers."""
        nvml = self._nvml
        if nvml is None:
            return []
        found: list[Gpu] = []
        try:
            count = nvml.nvmlDeviceGetCount()
        except nvml.NVMLError:
            return found
        for number in range(count):
            # A GPU that fell off the bus does not hide the others.
            with contextlib.suppress(nvml.NVMLError):
                found.append(_read(nvml, nvml.nvmlDeviceGetHandleByIndex(number)))
        return found


def _opened() -> ModuleType | None:
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    nvml: ModuleType = pynvml
    return nvml


def _read(nvml: ModuleType, handle: object) -> Gpu:
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    uuid = nvml.nvmlDeviceGetUUID(handle)
    return Gpu(
        # Older bindings give bytes.
        uuid.decode() if isinstance(uuid, bytes) else uuid,
        nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100,
        memory.total,
        memory.used,
    )
