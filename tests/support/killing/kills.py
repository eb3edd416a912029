"""The killed processes, and the versions that may be served afterwards."""

import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from fuzzing.wire import WireServer

from .models import NEW, OLD, WIDTHS, served, write_model, write_version

MODEL = "scaler"
_VICTIM = Path(__file__).with_name("victim.py")
_STEADY = "steady"
Found = tuple[int, int] | None
"""The version that answers and its factor; None: there is no such model."""


class Kills:
    """Kills in one folder, at moments that a seed chooses."""

    def __init__(self, seed: int) -> None:
        """Kills nothing yet."""
        self._random = random.Random(seed)
        self._steps: dict[str, dict[str, int]] = {}
        self.outcomes: dict[str, list[Found]] = {name: [] for name in SCENARIOS}
        """What was served after each kill."""

    def kill(self, scenario: str) -> str:
        """Kills once and starts a server on what is left; returns what is wrong, or nothing."""
        with tempfile.TemporaryDirectory() as folder:
            repository = Path(folder, "repository")
            write_model(repository / _STEADY, OLD, 1, 4)
            allowed = SCENARIOS[scenario](self, repository, Path(folder, "source", MODEL))
            server = WireServer(repository, "auto")
            try:
                if not server.fields:
                    return f"{scenario}: the server did not start: {server.said}"
                found = served(server.fields, MODEL)
                assert served(server.fields, _STEADY) == (1, OLD)
            except AssertionError as error:
                return f"{scenario}: {error}"
            finally:
                server.stop()
            self.outcomes[scenario].append(found)
            problems = [*server.failures, *([] if found in allowed else [f"{found} serves; expected one of {allowed}"])]
            return f"{scenario}: {'; '.join(problems)}" if problems else ""

    def publish(self, repository: Path, source: Path) -> list[Found]:
        """A new version of a model."""
        write_model(repository / MODEL, OLD, 1, 4)
        write_version(source / "2", NEW, 4)
        for name in ("config.pbtxt", "labels.txt"):
            shutil.copy(repository / MODEL / name, source / name)
        self._run_victim("publish", repository, source)
        return [(1, OLD), (2, NEW)]

    def publish_model(self, repository: Path, source: Path) -> list[Found]:
        """A new model."""
        write_model(source, NEW, 2, 4)
        self._run_victim("publish", repository, source)
        return [None, (1, NEW)]

    def pull_model(self, repository: Path, source: Path) -> list[Found]:
        """A new model from somewhere else."""
        write_model(source, NEW, 2, WIDTHS[NEW])
        self._run_victim("pull", repository, source)
        return [None, (2, NEW)]

    def pull_replaced(self, repository: Path, source: Path) -> list[Found]:
        """A version with other content, and another configuration."""
        write_model(repository / MODEL, OLD, 1, WIDTHS[OLD])
        write_model(source, NEW, 1, WIDTHS[NEW])
        self._run_victim("pull", repository, source)
        return [(1, OLD), (1, NEW)]

    def load(self, repository: Path, source: Path) -> list[Found]:
        """A server that is starting."""
        write_model(repository / MODEL, OLD, 1, 4)
        self._kill_server(repository, lambda: None, waits=False)
        return [(1, OLD)]

    def swap(self, repository: Path, source: Path) -> list[Found]:
        """A server that replaces its served versions by new files."""
        write_model(repository / MODEL, OLD, 1, WIDTHS[OLD])
        write_model(source, NEW, 1, WIDTHS[NEW])

        def pull() -> None:
            command = [sys.executable, str(_VICTIM), "pull", str(repository), str(source), "any:0"]
            subprocess.run(command, check=True, capture_output=True)

        self._kill_server(repository, pull, waits=True)
        return [(1, NEW)]

    def _run_victim(self, action: str, repository: Path, source: Path) -> None:
        """Has a process do it, that is killed at a step of this generator's choice."""
        kind = f"{action} {(repository / MODEL).exists()}"
        if kind not in self._steps:
            self._steps[kind] = self._count_steps(action, repository, source)
        of = self._random.choice(("any", "change"))
        step = f"{of}:{self._random.randint(1, self._steps[kind][of])}"
        command = [sys.executable, str(_VICTIM), action, str(repository), str(source), step]
        code = subprocess.run(command, capture_output=True, check=False).returncode
        if code not in (-9, 0):
            raise RuntimeError(f"{command} ended with {code}")

    def _count_steps(self, action: str, repository: Path, source: Path) -> dict[str, int]:
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder, "repository")
            shutil.copytree(repository, copy)
            command = [sys.executable, str(_VICTIM), action, str(copy), str(source), "any:0"]
            steps: dict[str, int] = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
            return steps

    def _kill_server(self, repository: Path, change: Callable[[], None], *, waits: bool) -> None:
        """Starts a server and kills it: while it starts or, where it `waits`, after a change of the repository."""
        options = ("--model-control-mode=poll", "--repository-poll-s=0.05")
        server = WireServer(repository, "auto", *options, waits=waits)
        change()
        # What it takes depends on the machine; a kill after the end of it does no harm.
        time.sleep(self._random.uniform(0, 0.5 if waits else 3))
        server.kill()


Scenario = Callable[[Kills, Path, Path], list[Found]]
SCENARIOS: dict[str, Scenario] = {
    "publish a version": Kills.publish,
    "publish a model": Kills.publish_model,
    "pull a model": Kills.pull_model,
    "pull with --replace": Kills.pull_replaced,
    "load": Kills.load,
    "swap": Kills.swap,
}
