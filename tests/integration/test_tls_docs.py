"""docs/tls.md: the server accepts the files of its commands."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pixelserve.client import Client, Tls


@pytest.mark.slow
def test_the_commands_for_a_ca_make_a_server_and_a_client_that_trust_each_other(
    start_server: Callable[..., Any], doubler_repository: Path, root: Path, tmp_path: Path
) -> None:
    (commands,) = re.findall(r"```sh\n(.*?)```", (root / "docs" / "tls.md").read_text(), re.DOTALL)
    subprocess.run(["bash", "-euc", commands], cwd=tmp_path, check=True, capture_output=True)
    files = {name: str(tmp_path / name) for name in ("ca.crt", "tls.crt", "tls.key", "client.crt", "client.key")}
    server = start_server(
        doubler_repository,
        *("--tls-cert", files["tls.crt"], "--tls-key", files["tls.key"], "--tls-client-ca", files["ca.crt"]),
    )
    assert not [line for line in server.events() if line["event"] == "certificate doubtful"]
    tls = Tls(ca=files["ca.crt"], cert=files["client.crt"], key=files["client.key"])
    with Client(server.grpc, tls=tls, timeout_s=60) as client:
        assert client.health()
