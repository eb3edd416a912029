"""Short drills that count only failures; `make drill` runs all cases for a minute each."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.drill.__main__ import run
from deploy.drill.chart import PROGRAMS
from deploy.drill.stage import Options

SECONDS = 8
# Longer than endpoints take to follow, and no longer: the chart's 10 s would double the test.
SETTLE_S = 4
# Calls that cross the news that their connection ends are lost to clients that retry nothing: rare, but not never.
CROSSED = "GOAWAY received"

pytestmark = [pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(240)]


@pytest.fixture(autouse=True)
def _tools(request: pytest.FixtureRequest) -> None:
    is_envoy = "envoy" in request.node.callspec.params.values() if hasattr(request.node, "callspec") else False
    if is_envoy and not (shutil.which("envoy") or (PROGRAMS / "envoy").exists()):
        pytest.skip("the drill needs Envoy and helm: make .venv/stamps/deploy")


@pytest.mark.parametrize(
    ("case", "balancer"),
    [
        ("restart", "envoy"),
        ("update", "forwarder"),
        ("bad-version", "envoy"),
        ("kill", "envoy"),
        ("stop", "envoy"),
    ],
)
def test_clients_lose_no_call_to(case: str, balancer: str) -> None:
    row = run(case, Options(balancer, seconds=SECONDS, settle_s=SETTLE_S))
    assert min(row.requests.values()) > 0
    missed = [goal for goal in row.goals if not goal.is_met and CROSSED not in goal.figure]
    assert not missed, row
    assert (row.failures["default"], row.failures["sdk"]) == (0, 0), row


def test_calls_to_overloaded_servers_are_answered_or_refused() -> None:
    row = run("overload", Options("forwarder", seconds=12, settle_s=0))
    assert row.requests["raw"] > 0
    assert row.failures == {"raw": 0}, row


def test_a_wrong_case_is_refused_with_the_names_of_those_there_are(root: Path) -> None:
    command = [sys.executable, "-m", "deploy.drill", "--case", "restrat"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, timeout=60)
    assert done.returncode == 2
    assert "bad-version" in done.stderr
