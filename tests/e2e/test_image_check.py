"""`make image-check` with a real build: the server's image is inspected and run."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.images.check import PACKAGES, check, missing_packages
from deploy.images.engine import ImageError

ROOT = Path(__file__).resolve().parent.parent.parent
SYFT = ROOT / ".venv" / "deploy" / "bin" / "syft"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing_packages()), reason=f"not installed (apt): {', '.join(missing_packages())}"),
    pytest.mark.skipif(not SYFT.exists(), reason="syft is not installed: make .venv/stamps/deploy"),
    pytest.mark.skipif(os.geteuid() != 0, reason="a base system and a container with limits need root"),
]


@pytest.mark.parametrize("tool", [*PACKAGES])
def test_a_missing_tool_is_an_error_that_names_its_package(tool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: None if name == tool else found(name))
    with pytest.raises(ImageError, match=f"apt install {PACKAGES[tool]}$"):
        check(as_json=True, syft=str(SYFT))


def test_a_missing_syft_is_an_error_that_says_how_to_get_it() -> None:
    with pytest.raises(ImageError, match="make image-check"):
        check(as_json=True, syft="/nothing/syft")


@pytest.mark.timeout(900)
def test_the_server_s_image_is_small_closed_and_serves() -> None:
    command = [sys.executable, "-m", "deploy.images", "check", "--json", "--syft", SYFT]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout, done.stderr
    report = json.loads(done.stdout)
    assert [check for check in report["checks"] if not check["ok"]] == []
    assert done.returncode == 0
    names = {check["name"] for check in report["checks"]}
    assert {"unpacked size", "no shell", "classifies a picture", "SIGTERM", "HEALTHCHECK"} <= names
