"""User names and passwords for registries, from the file that docker login and Kubernetes' pull secrets write."""

import base64
import json
import os
from pathlib import Path
from typing import Any

from pixelserve.pull.errors import UsageError
from pixelserve.text import TextError, read_text


def find_credentials(registry: str) -> str | None:
    """Returns `user:password` for a registry in base64, as HTTP sends it, or None.

    The file is $REGISTRY_AUTH_FILE, else $DOCKER_CONFIG/config.json, else ~/.docker/config.json. Its helper
    programs are not run.

    Raises:
        UsageError: the file cannot be read.
    """
    path = _file()
    if path is None or not path.is_file():
        return None
    try:
        auths = json.loads(read_text(path)).get("auths") or {}
        found = {_host(key): value for key, value in auths.items()}
        return _encoded(found.get(registry) or {})
    except (OSError, TextError, ValueError, AttributeError) as error:
        raise UsageError(f"{path}: {error}; expected the JSON that docker login writes") from error


def _file() -> Path | None:
    if file := os.environ.get("REGISTRY_AUTH_FILE"):
        return Path(file)
    if folder := os.environ.get("DOCKER_CONFIG"):
        return Path(folder, "config.json")
    # Not Path.home(): a container's user may have none.
    home = os.environ.get("HOME")
    return Path(home, ".docker", "config.json") if home else None


def _host(key: str) -> str:
    """Returns the host of a key, which may be a URL."""
    return key.removeprefix("https://").partition("/")[0]


def _encoded(entry: dict[str, Any]) -> str | None:
    if entry.get("auth"):
        return str(entry["auth"])
    if entry.get("username"):
        return base64.b64encode(f"{entry['username']}:{entry.get('password', '')}".encode()).decode()
    return None
