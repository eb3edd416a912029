"""The commands and the code of docs/rest.md, run unchanged against a server."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pixelserve_server.api.rest.status import HTTP_STATUS

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = (ROOT / "docs" / "rest.md").read_text()
COMMANDS = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
(CODE,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def http(start_module_server: Callable[..., Any]) -> str:
    """The URL of a server on the committed models."""
    return str(start_module_server(ROOT / "models").http)


@pytest.mark.parametrize("command", COMMANDS, ids=range(len(COMMANDS)))
def test_the_commands_are_answered(http: str, command: str, tmp_path: Path) -> None:
    script = f"DIR={tmp_path}\n" + command.replace("http://127.0.0.1:8000", http)
    done = subprocess.run(["bash", "-ec", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert '"model' in done.stdout
    assert "error" not in done.stdout


def test_tritonclient_says_what_is_on_the_picture(http: str) -> None:
    code = CODE.replace("127.0.0.1:8000", http.removeprefix("http://"))
    python = f"{sys.prefix}/tritonclient/bin/python"
    done = subprocess.run([python, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert ":7:7" in done.stdout


def test_the_table_of_errors_is_that_of_the_code() -> None:
    rows = dict(re.findall(r"^\| (\d{3}) \| ([A-Z_]+) \|", PAGE, re.MULTILINE))
    # A caller who has left reads nothing; too large a body has a status of HTTP's own.
    expected = {str(status): code.name for code, status in HTTP_STATUS.items() if status != 499}
    assert rows == expected | {"413": "RESOURCE_EXHAUSTED"}
