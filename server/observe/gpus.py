"""The machine's GPUs, as NVIDIA's management library (NVML) sees them."""

import contextlib
from dataclasses import dataclass
from types import ModuleType


@dataclass(frozen=True)
class Gpu:
    """What one GPU is doing."""

    uuid: str
    """Its name for life, such as GPU-2c1f…."""
    utilization: float
    """Share of the last moments in which it computed anything, 0 to 1."""
    memory_total_bytes: int
    """Bytes of memory that it has."""
    memory_used_bytes: int
    """Bytes of it in use, by whatever process."""


class Gpus:
    """Reads all GPUs of this machine; none where there is no NVML. May be used from any thread."""

    def __init__(self) -> None:
        """Opens NVML, where it is there."""
        self._nvml = _opened()

    def read(self) -> list[Gpu]:
        """Returns what each GPU is doing; one that does not answer is left out."""
        nvml = self._nvml
        if nvml is None:
            return []
        found: list[Gpu] = []
        try:
            count = nvml.nvmlDeviceGetCount()
        except nvml.NVMLError:
            return found
        for number in range(count):
            # One that has fallen off the bus, or does not tell, leaves the others.
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
