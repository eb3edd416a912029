"""The number of usable cores: affinity and cgroups of both versions, in fake trees."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pixelserve_server.engine.cores import usable_cores

Tree = dict[str, str]


@pytest.fixture
def count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Counts the usable cores of a process in the given groups, under a mounted tree, that may run on eight cores."""

    def make(own: str, tree: Tree, affinity: int = 8) -> int:
        for name, text in tree.items():
            (tmp_path / "cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "cgroup" / name).write_text(text)
        (tmp_path / "own").write_text(own)
        monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(affinity)))
        # The machine's own count says nothing, and must not be asked for.
        monkeypatch.setattr(os, "cpu_count", lambda: pytest.fail("the host's cores were counted"))
        return usable_cores(tmp_path / "cgroup", tmp_path / "own")

    return make


@pytest.mark.parametrize(
    ("own", "tree", "cores"),
    [
        pytest.param("0::/", {}, 8, id="no group limits it"),
        pytest.param("0::/", {"cpu.max": "max 100000\n"}, 8, id="unlimited"),
        pytest.param("0::/", {"cpu.max": "300000 100000\n"}, 3, id="whole cores"),
        pytest.param("0::/", {"cpu.max": "150000 100000\n"}, 2, id="a half is rounded up"),
        pytest.param("0::/", {"cpu.max": "10000 100000\n"}, 1, id="at least one"),
        pytest.param("0::/", {"cpu.max": "9900000 100000\n"}, 8, id="more than affinity leaves"),
        pytest.param("0::/", {"cpu.max": "what is this\n"}, 8, id="unreadable"),
        pytest.param("0::/", {"cpu.max": "100000 0\n"}, 8, id="no period"),
        pytest.param("0::/a/b", {"a/b/cpu.max": "200000 100000"}, 2, id="of the process's own group"),
        pytest.param(
            "0::/a/b",
            {"a/b/cpu.max": "max 100000", "a/cpu.max": "500000 100000", "cpu.max": "max 100000"},
            5,
            id="of a group above",
        ),
        pytest.param("0::/a/b", {"a/b/cpu.max": "600000 100000", "a/cpu.max": "200000 100000"}, 2, id="the least"),
        pytest.param("0::/docker/f00", {"cpu.max": "200000 100000"}, 2, id="a container's own, mounted as the root"),
        pytest.param("0::/../../x", {"cpu.max": "200000 100000"}, 2, id="outside the namespace"),
        pytest.param("0::/", {"cpu.cfs_quota_us": "100000", "cpu.cfs_period_us": "100000"}, 8, id="of no version"),
    ],
)
def test_a_limit_of_version_2_holds(count: Callable[..., int], own: str, tree: Tree, cores: int) -> None:
    assert count(own + "\n", tree) == cores


@pytest.mark.parametrize(
    ("folder", "own"),
    [
        pytest.param("cpu", "1:cpu:/", id="alone"),
        pytest.param("cpu,cpuacct", "4:cpu,cpuacct:/", id="with another controller"),
        pytest.param("cpu", "4:cpuacct,cpu:/", id="by its link"),
        pytest.param("cpu/pod/one", "4:cpu:/pod/one", id="of a group below"),
        pytest.param("cpu/pod", "4:cpu:/pod/one", id="of a group above"),
    ],
)
def test_a_limit_of_version_1_holds(count: Callable[..., int], folder: str, own: str) -> None:
    tree = {f"{folder}/cpu.cfs_quota_us": "250000\n", f"{folder}/cpu.cfs_period_us": "100000\n"}
    assert count(f"9:memory:/\n{own}\n0::/\n", tree) == 3


def test_a_quota_of_minus_one_means_no_quota(count: Callable[..., int]) -> None:
    assert count("1:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}) == 8


def test_both_versions_at_once_leave_what_the_stricter_leaves(count: Callable[..., int]) -> None:
    tree = {"cpu/cpu.cfs_quota_us": "400000", "cpu/cpu.cfs_period_us": "\n100000", "cpu.max": "600000 100000"}
    assert count("1:cpu:/\n0::/\n", tree) == 4


def test_affinity_alone_limits(count: Callable[..., int]) -> None:
    assert count("0::/\n", {}, affinity=2) == 2


def test_this_process_may_use_a_core() -> None:
    assert 1 <= usable_cores() <= len(os.sched_getaffinity(0))


def test_a_system_without_cgroups_leaves_affinity(tmp_path: Path) -> None:
    assert usable_cores(tmp_path / "none", tmp_path / "nothing") == len(os.sched_getaffinity(0))
