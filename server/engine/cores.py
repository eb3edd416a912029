"""The processor cores that this process may use, which in a container are fewer than the machine has."""

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_GROUPS = Path("/proc/self/cgroup")


def usable_cores(cgroups: Path = _CGROUPS, own_groups: Path = _OWN_GROUPS) -> int:
    """Returns how many cores this process may use, at least 1: the fewest that its affinity or a cgroup leaves it.

    A limit of one and a half cores counts as two: the half is worth a thread. The machine's own count is never asked
    for, since a container gets only a part of it.

    Args:
        cgroups: where cgroups are mounted, of version 1, version 2 or both.
        own_groups: the file that says in which groups this process is.
    """
    limits = [math.ceil(cores) for cores in _limits(cgroups, own_groups)]
    return max(1, min([len(os.sched_getaffinity(0)), *limits]))


def _limits(cgroups: Path, own_groups: Path) -> Iterator[float]:
    """Yields, in cores, the limit of each group that this process is in and of all above it, which hold as well."""
    for line in _read(own_groups).splitlines():
        # number:controllers:path; version 2 has no controllers there.
        _, controllers, path = line.split(":", 2)
        if not controllers:
            for folder in _upwards(cgroups, path):
                yield from _cores(_read(folder / "cpu.max"))
        elif "cpu" in controllers.split(","):
            # The folder is called after all controllers that share it, in an order of its own.
            for folder in (*_upwards(cgroups / controllers, path), *_upwards(cgroups / "cpu", path)):
                yield from _cores(_read(folder / "cpu.cfs_quota_us") + _read(folder / "cpu.cfs_period_us"))


def _upwards(mount: Path, group: str) -> Iterator[Path]:
    """Yields a group's folder and those above it, up to the mount; some may not be there.

    A container often sees the path that its group has on the host, and the group itself mounted as the root.
    """
    own = PurePosixPath(group.lstrip("/"))
    if ".." in own.parts:
        # A group outside this namespace: the part that shows is the root.
        own = PurePosixPath()
    for each in (own, *own.parents):
        yield mount / each


def _cores(text: str) -> Iterator[float]:
    """Yields the cores that `quota period`, in microseconds, allow; nothing where there is no limit."""
    match text.split():
        case [quota, period] if quota.isdigit() and period.isdigit() and int(period):
            yield int(quota) / int(period)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
