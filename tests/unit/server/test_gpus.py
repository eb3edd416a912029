"""Metrics from NVML, and machines without it."""

import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from pixelserve_server.observe.gpus import Gpu, Gpus
from pixelserve_server.observe.metrics import Metrics

MIB = 1024 * 1024


class NVMLError(Exception):
    """NVML's."""


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Stands in for NVML: two GPUs, of which the second may be told to have gone."""
    fake: Any = ModuleType("pynvml")
    fake.gone = False

    def handle(number: int) -> int:
        if number and fake.gone:
            raise NVMLError("GPU is lost")
        return number

    fake.NVMLError = NVMLError
    fake.nvmlInit = lambda: None
    fake.nvmlDeviceGetCount = lambda: 2
    fake.nvmlDeviceGetHandleByIndex = handle
    fake.nvmlDeviceGetUUID = lambda number: f"GPU-{number}".encode() if number else f"GPU-{number}"
    fake.nvmlDeviceGetUtilizationRates = lambda number: SimpleNamespace(gpu=40 + number, memory=1)
    fake.nvmlDeviceGetMemoryInfo = lambda number: SimpleNamespace(total=80 * MIB, used=(8 + number) * MIB)
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    return fake


def test_each_gpu_is_read(nvml: Any) -> None:
    assert Gpus().read() == [Gpu("GPU-0", 0.4, 80 * MIB, 8 * MIB), Gpu("GPU-1", 0.41, 80 * MIB, 9 * MIB)]


def test_one_that_has_gone_leaves_the_others(nvml: Any) -> None:
    gpus = Gpus()
    nvml.gone = True
    assert [gpu.uuid for gpu in gpus.read()] == ["GPU-0"]


def _fail() -> None:
    raise NVMLError("driver not loaded")


@pytest.mark.parametrize(
    "lack",
    [
        pytest.param(lambda fake, patch: patch.setitem(sys.modules, "pynvml", None), id="no bindings"),
        pytest.param(lambda fake, patch: patch.setattr(fake, "nvmlInit", _fail), id="no driver"),
    ],
)
def test_a_machine_without_has_none(
    nvml: Any, monkeypatch: pytest.MonkeyPatch, lack: Callable[[Any, pytest.MonkeyPatch], None]
) -> None:
    lack(nvml, monkeypatch)
    assert Gpus().read() == []


def test_they_are_on_the_page(nvml: Any) -> None:
    registry = Metrics(gpus=Gpus()).registry
    labels = {"gpu_uuid": "GPU-1"}
    assert registry.get_sample_value("nv_gpu_utilization", labels) == 0.41
    assert registry.get_sample_value("nv_gpu_memory_total_bytes", labels) == 80 * MIB
    assert registry.get_sample_value("nv_gpu_memory_used_bytes", labels) == 9 * MIB


def test_a_driver_that_fails_later_does_not_break_the_page(nvml: Any) -> None:
    metrics = Metrics(gpus=Gpus())
    nvml.nvmlDeviceGetCount = _fail
    assert metrics.registry.get_sample_value("pixelserve_threads")
