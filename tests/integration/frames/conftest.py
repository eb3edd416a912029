"""What the tests of hostile clients share: a server for each transport, and what an attack may cost.

Every attack must leave the server's memory bounded, its other clients' calls answered, and the server as it was.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from neighbours import Neighbours
from raw_http2 import RawConnection, until

MIB = 1 << 20
RECOVERY_S = 30


# Of a module: pytest would mix these servers with those of the contract, whose fixture has the same name.
@pytest.fixture(scope="module", params=["h2corn", "grpcio"])
def transport(request: pytest.FixtureRequest) -> str:
    """What --transport names; both must hold."""
    return str(request.param)


@dataclass
class Target:
    """A server under attack."""

    process: Any
    transport: str

    @property
    def address(self) -> str:
        return str(self.process.grpc)

    def connect(self, settings: dict[int, int] | None = None, **options: Any) -> RawConnection:
        return RawConnection(self.address, settings, **options)

    def memory_mib(self, field: str = "VmRSS") -> float:
        """Returns a memory figure of the process: current (VmRSS) or peak (VmHWM)."""
        lines = (self._proc / "status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024

    def descriptors(self) -> int:
        """Returns how many files and connections it holds open."""
        return sum(1 for _ in (self._proc / "fd").iterdir())

    @contextmanager
    def holds(self, *, growth_mib: float, loses: str = "") -> Iterator[None]:
        """Checks what an attack may cost: so much memory at its peak, no call of others, and nothing afterwards.

        Args:
            growth_mib: the most that the process may grow meanwhile.
            loses: calls of others may end with this status meanwhile; nothing: none may be lost.
        """
        before = self.descriptors()
        (self._proc / "clear_refs").write_text("5")
        start_mib = self.memory_mib()
        with Neighbours(self.address) as neighbours:
            assert until(lambda: neighbours.answered > 0, RECOVERY_S)
            yield
        peak_mib = self.memory_mib("VmHWM")
        assert {reason.partition(":")[0] for reason in neighbours.lost} <= {loses}, neighbours.lost
        assert peak_mib - start_mib < growth_mib
        # Connections may end a little after their client has gone; new ones are served as if nothing had been.
        assert until(lambda: self.descriptors() <= before, RECOVERY_S)
        assert until(self._serves, RECOVERY_S if loses else 0)

    def _serves(self) -> bool:
        """Returns whether calls on new connections are all answered."""
        with Neighbours(self.address) as neighbours:
            assert until(lambda: neighbours.answered + neighbours.lost.total() >= 10, RECOVERY_S)
        return not neighbours.lost

    @property
    def _proc(self) -> Path:
        return Path(f"/proc/{self.process.process.pid}")


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory, model_writer: Any, write_patient_model: Any) -> Path:
    """`doubler`, and `roomy`, whose requests wait for an hour."""
    path = tmp_path_factory.mktemp("frames")
    model_writer(path / "doubler" / "1" / "model.onnx")
    write_patient_model(path / "roomy", rows=100, max_queue_size=4000)
    return path


@pytest.fixture(scope="module")
def target(start_module_server: Callable[..., Any], transport: str, repository: Path) -> Target:
    """A server that takes messages of up to 1 MiB."""
    return Target(start_module_server(repository, "--max-message-mib", "1"), transport)


@pytest.fixture(scope="module")
def make_target() -> Callable[..., Target]:
    """Takes a server process and its transport."""
    return Target


@pytest.fixture
def start_target(start_server: Callable[..., Any], transport: str, repository: Path) -> Callable[..., Target]:
    """Starts a server of a test's own, with any further arguments."""
    return lambda *args, models=repository: Target(start_server(models, *args), transport)
