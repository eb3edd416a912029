"""`make bench-gpu`: its message without a GPU, its tables, and a full run on a CPU."""

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnxruntime as ort
import pytest


@pytest.fixture
def bench(root: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The program's modules, which lie beside each other and in no package."""
    monkeypatch.syspath_prepend(str(root / "benchmarks"))
    return SimpleNamespace(**{name: importlib.import_module(f"gpu_{name}") for name in ("bare", "load", "rate")})


def run(root: Path, *args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(root / "benchmarks" / "gpu_rate.py"), *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=200)


@pytest.fixture
def _without_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CPUExecutionProvider"])


@pytest.mark.usefixtures("_without_cuda")
def test_the_error_of_an_onnx_runtime_without_cuda_says_what_to_install(
    bench: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu_rate.py"])
    assert bench.rate.main() == 3
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert "no CUDA provider" in said.err
    assert "pip install 'onnxruntime-gpu[cuda,cudnn]'" in said.err


def test_a_machine_without_a_detected_gpu_is_reported(
    bench: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(bench.bare.NoGpuError, match="nvidia-smi finds none here"):
        bench.bare.find_machine("cuda")


def test_the_cards_name_is_nvidia_smis(bench: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA H200, 580.65.06'\n")
    program.chmod(0o755)
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    monkeypatch.setenv("PATH", str(tmp_path))
    assert bench.bare.find_machine("cuda") == bench.bare.Machine("NVIDIA H200", "580.65.06", ort.__version__)


def test_no_load_is_less_than_one_request(bench: Any) -> None:
    assert bench.rate.points([32, 64], 64) == [(1, 32), (1, 64), (8, 32), (8, 64), (64, 64)]
    assert bench.rate.points([32], 8) == [(1, 32), (8, 32)]


@pytest.mark.parametrize("in_flight", [1, 4, 7, 16, 1024])
def test_generators_together_keep_as_many_requests_under_way_as_asked(bench: Any, in_flight: int) -> None:
    command = bench.load.h2load_command("127.0.0.1:8001", Path("body"), in_flight)
    given = dict(each.removeprefix("--").split("=", 1) for each in command if each.startswith("--"))
    assert int(given["clients"]) * int(given["max-concurrent-streams"]) == in_flight
    assert int(given["threads"]) <= int(given["clients"])
    commands = bench.load.bench_commands("127.0.0.1:8001", "m", 8, in_flight)
    assert sum(int(each[each.index("--concurrency") + 1]) for each in commands) == in_flight


def test_a_ratio_is_of_the_most_in_flight_and_of_rates_measured_beside_each_other(bench: Any) -> None:
    findings = bench.rate.Findings(
        bare={"ONNX Runtime": {1: [10.0, 30.0], 64: [1000.0, 3000.0]}},
        served={"server": {(1, 32): [9.0, 9.0], (64, 64): [1.0, 1.0], (64, 1024): [800.0, 2700.0]}},
        beside={"server": {(1, 32): [10.0, 10.0], (64, 64): [1.0, 1.0], (64, 1024): [1000.0, 3000.0]}},
    )
    assert findings.ratios("server", 64) == pytest.approx([0.8, 0.9])
    assert findings.ratios("server", 8) == []
    page = bench.rate.as_markdown(findings, bench.bare.Machine("NVIDIA H200", "580.1", "1.31.1"), "2026-01-02", 2)
    assert "# NVIDIA H200, 2026-01-02" in page
    assert "| 64 | 2,000 (1,000 to 3,000) |" in page
    assert "| 64 | 1024 | 1,750 (800 to 2,700) |" in page
    assert "against ONNX Runtime at that batch: 0.85 (0.80 to 0.90); goal 0.8" in page
    assert bench.rate.TRIAL not in page


@pytest.mark.slow
def test_the_whole_way_works_on_a_cpu_and_saves_what_it_prints(root: Path, tmp_path: Path) -> None:
    small = ("--rounds", "1", "--seconds", "0.05", "--in-flight", "64", "--max-batch", "64")
    done = run(root, "--provider", "cpu", *small, "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    (page,) = tmp_path.glob("*-cpu.md")
    assert page.read_text() == done.stdout
    assert "not a measurement" in done.stdout
    whole = json.loads(page.with_suffix(".json").read_text())
    assert (whole["card"], whole["runtime"]) == ("CPU", ort.__version__)
    assert [each["batch"] for each in whole["bare"]["ONNX Runtime"]] == [1, 2, 4, 8, 16, 32, 64]
    assert [(each["images"], each["in_flight"]) for each in whole["served"]["server"]] == [(1, 64), (8, 64), (64, 64)]
    assert whole["notes"] == ["CUDA graphs are off: the model is computed on the CPU"]
