"""The CPU cores that this process may use, which in a container may be fewer than the machine's."""

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_GROUPS = Path("/proc/self/cgroup")


def usable_cores(cgroups: Path = _CGROUPS, own_groups: Path = _OWN_GROUPS) -> int:
    """Returns the number of cores this process may use, at least 1: the minimum of its affinity and cgroup limits.

    A limit of one and a half cores counts as two: the half is worth a thread. The machine's own count is not used,
    because a container gets only a part of it.

    Args:
        cgroups: the mount point of cgroups, version 1, version 2 or both.
        own_groups: the file that lists this process's groups.
    """
    limits = [math.ceil(cores) for cores in _limits(cgroups, own_groups)]
    return max(1, min([len(os.sched_getaffinity(0)), *limits]))


def _limits(cgroups: Path, own_groups: Path) -> Iterator[float]:
    """Yields the limits, in cores, of this process's groups and all their parents."""
    for line in _read(own_groups).splitlines():
        # number:controllers:path; version 2 has no controllers there.
        _, controllers, path = line.split(":", 2)
        if not controllers:
            for folder in _upwards(cgroups, path):
                yield from _cores(_read(folder / "cpu.max"))
        elif "cpu" in controllers.split(","):
            # The folder is named after all controllers that share it, in an arbitrary order.
            for folder in (*_upwards(cgroups / controllers, path), *_upwards(cgroups / "cpu", path)):
                yield from _cores(_read(folder / "cpu.cfs_quota_us") + _read(folder / "cpu.cfs_period_us"))


def _upwards(mount: Path, group: str) -> Iterator[Path]:
    """Yields a group's folder and its parents, up to the mount; some may not exist.

    A container often sees its group's path on the host, with the group itself mounted as the root.
    """
    own = PurePosixPath(group.lstrip("/"))
    if ".." in own.parts:
        # A group outside this namespace: only the root is visible.
        own = PurePosixPath()
    for each in (own, *own.parents):
        yield mount / each


def _cores(text: str) -> Iterator[float]:
    """Yields the cores allowed by `quota period`, in microseconds; nothing without a limit."""
    match text.split():
        case [quota, period] if quota.isdigit() and period.isdigit() and int(period):
            yield int(quota) / int(period)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
