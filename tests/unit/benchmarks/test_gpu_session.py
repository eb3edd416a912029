"""benchmarks/gpu_session.sh, as far as it can be tried without a GPU."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = ROOT / "benchmarks" / "gpu_session.sh"


def session(*args: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["bash", SCRIPT, *args], capture_output=True, text=True, timeout=30, check=False)


def test_all_steps_together_take_less_than_ten_minutes(tmp_path: Path) -> None:
    done = session("--dry-run", "--out", str(tmp_path))
    assert done.returncode == 0
    limits = re.findall(r"^(\w+) +(\d+) s ", done.stdout, re.MULTILINE)
    assert [name for name, _ in limits] == ["card", "venv", "server", "tools", "project", "versions", "tests", "rates"]
    assert sum(int(seconds) for _, seconds in limits) < 600


def test_without_a_network_everything_comes_from_a_folder(tmp_path: Path) -> None:
    done = session("--dry-run", "--out", str(tmp_path), "--wheels", "/wheels")
    installs = [line for line in done.stdout.splitlines() if " pip install " in line]
    assert len(installs) == 3
    assert all("--no-index --find-links /wheels" in line for line in installs)


def test_every_file_and_test_that_it_names_exists() -> None:
    named = set(re.findall(r"(?:requirements|benchmarks|tests)/[\w./-]+\.(?:txt|py)", SCRIPT.read_text()))
    assert len(named) == 5
    assert [name for name in named if not (ROOT / name).is_file()] == []


def test_an_unknown_option_is_refused() -> None:
    done = session("--gpu")
    assert (done.returncode, done.stderr) == (2, f"unknown option --gpu; see the head of {SCRIPT}\n")
