"""The README's client examples, run as they stand against a server."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
# Each example is a fenced block behind a line that names the client.
EXAMPLES = dict(
    re.findall(r"\*\*(\w[^*]*)\*\*[^\n]*\n\n```(?:python|bash)\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
)
PYTHON = {"Python": sys.executable, "asyncio": sys.executable, "tritonclient": f"{sys.prefix}/tritonclient/bin/python"}

pytestmark = pytest.mark.slow


def test_every_client_has_an_example_of_ten_lines() -> None:
    assert set(EXAMPLES) == {"Command line", "HTTP", *PYTHON}
    lengths = {client: len([line for line in code.splitlines() if line.strip()]) for client, code in EXAMPLES.items()}
    assert max(lengths.values()) <= 10, lengths


@pytest.mark.parametrize("client", PYTHON)
def test_the_python_examples_say_what_is_on_the_picture(server: Any, client: str) -> None:
    code = EXAMPLES[client].replace("127.0.0.1:8001", server.grpc)
    done = subprocess.run([PYTHON[client], "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "7" in done.stdout


def test_the_command_lines_run(server: Any) -> None:
    for line in EXAMPLES["Command line"].strip().splitlines():
        words = line.split("#")[0].split()
        assert words[0] == "pixelserve"
        command = [sys.executable, "-m", *words, "--address", server.grpc]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, (line, done.stderr)


def test_the_http_examples_run(server: Any) -> None:
    code = EXAMPLES["HTTP"].replace("http://127.0.0.1:8000", server.http)
    done = subprocess.run(["bash", "-ec", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert '"label":"7"' in done.stdout
    assert '"name":"mnist-cnn"' in done.stdout
