"""The drill's cluster: when balancers hear of a change."""

from pathlib import Path
from typing import Any

from deploy.drill.cluster import Cluster
from deploy.drill.pods import Pod, Template
from deploy.drill.topology import Loopback


class StubbedTimer:
    """Keeps what would be called later, so a test says in which order it is."""

    later: list[tuple[Any, tuple[Any, ...]]]

    def __init__(self, _: float, work: Any, args: tuple[Any, ...]) -> None:
        self.later.append((work, args))

    def start(self) -> None:
        pass


def test_a_change_that_is_overtaken_by_a_later_one_is_not_published(monkeypatch: Any, tmp_path: Path) -> None:
    """Timeline: 1. a new pod is ready; 2. the old one is deleted at once; 3. timers fire in the wrong order."""
    later: list[tuple[Any, tuple[Any, ...]]] = []
    monkeypatch.setattr(StubbedTimer, "later", later, raising=False)
    monkeypatch.setattr("deploy.drill.cluster.threading.Timer", StubbedTimer)
    published: list[list[str]] = []
    network = Loopback()
    cluster = Cluster(network, tmp_path, published.append, termination_s=1)
    old, new = (Pod(name, network.place(), Template(tmp_path), tmp_path / name) for name in ("old", "new"))
    cluster._set_ready(old, True)
    cluster._set_ready(new, True)
    cluster._set_ready(old, False)
    for work, args in reversed(later):
        work(*args)
    assert published == [[new.address]]
