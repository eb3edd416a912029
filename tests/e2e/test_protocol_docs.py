"""The code of docs/protocol.md, run unchanged against a server."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
(CODE,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "protocol.md").read_text(), re.DOTALL)


@pytest.mark.slow
def test_tritonclient_says_what_is_on_the_picture(server: Any) -> None:
    python = f"{sys.prefix}/tritonclient/bin/python"
    code = CODE.replace("127.0.0.1:8001", server.grpc)
    done = subprocess.run([python, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert ":7:7" in done.stdout
