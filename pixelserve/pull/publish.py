"""Publishes a fetched and verified model in its repository, so no server ever sees a mixture of old and new files.

- A new model appears with one rename, and so does each new version of an otherwise unchanged model.
- If existing files change (config.pbtxt, labels, a replaced version), the model's whole new folder is assembled beside
  the old one, with links to unchanged files, and the two are exchanged atomically: whenever the pull is killed, a
  server finds the old model or the new one.
- On a file system that cannot exchange folders, labels come first, then versions, then config.pbtxt. A server that
  looks in between may find a mixture; it keeps serving what it has and looks again. Replacing two labels, the
  configuration and a version, and adding another, passes through four mixtures; in one the replaced version is missing.
"""

import ctypes
import errno
import filecmp
import os
import shutil
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from .errors import ConflictError
from .listing import WARMUP_FOLDER
from .verify import CONFIG_FILE

# From Linux's fcntl.h and fs.h.
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


class State(StrEnum):
    """The change of a version or a file."""

    ADDED = "added"
    UNCHANGED = "unchanged"
    REPLACED = "replaced"


@dataclass(frozen=True)
class Plan:
    """The planned changes."""

    is_new: bool
    """Whether the model is new in the repository."""
    versions: dict[int, State]
    """By number, lowest first."""
    files: dict[str, State]
    """By name: config.pbtxt, labels and other files beside the versions; the warm-up folder counts as one."""

    @property
    def only_adds_versions(self) -> bool:
        """Whether no existing file changes."""
        return set(self.files.values()) <= {State.UNCHANGED} and State.REPLACED not in self.versions.values()


def make_plan(fetched: Path, model: Path, *, replace: bool) -> Plan:
    """Compares a fetched model with the one in the repository, which need not exist.

    Raises:
        ConflictError: a version exists with other content, and `replace` is not set.
    """
    states = {path.name: _state(path, model / path.name) for path in sorted(fetched.iterdir())}
    versions = {int(name): states[name] for name in sorted(filter(str.isdecimal, states), key=int)}
    files = {name: state for name, state in states.items() if not (fetched / name).is_dir() or name == WARMUP_FOLDER}
    other = [str(version) for version, state in versions.items() if state is State.REPLACED]
    if other and not replace:
        raise ConflictError(
            f"{model} has a version {', '.join(other)} with other content, and nothing was changed; export under a new "
            f"number, leave it out with --versions, or overwrite it with --replace"
        )
    return Plan(not os.path.lexists(model), versions, files)


def _state(fetched: Path, present: Path) -> State:
    if not os.path.lexists(present):
        return State.ADDED
    return State.UNCHANGED if _contents(fetched) == _contents(present) and _equal(fetched, present) else State.REPLACED


def _contents(path: Path) -> set[str]:
    """Returns the paths of all files below a folder except hidden ones; for a file, an empty path."""
    if not path.is_dir():
        return {""}
    found = (Path(root, name).relative_to(path) for root, _, names in os.walk(path, followlinks=True) for name in names)
    return {str(each) for each in found if not any(part.startswith(".") for part in each.parts)}


def _equal(fetched: Path, present: Path) -> bool:
    return all(filecmp.cmp(fetched / name, present / name, shallow=False) for name in _contents(fetched))


def publish(plan: Plan, fetched: Path, model: Path) -> None:
    """Applies a plan. Must not be interrupted.

    Args:
        plan: what to do.
        fetched: the model, in its own folder on the repository's file system; used files are moved out of it.
        model: its folder in the repository.

    Raises:
        OSError: it cannot be written.
    """
    if plan.is_new:
        fetched.rename(model)
    elif plan.only_adds_versions:
        _add_versions(plan, fetched, model)
    elif not _swap(plan, fetched, model):
        _change_in_place(plan, fetched, model)


def _add_versions(plan: Plan, fetched: Path, model: Path) -> None:
    for version, state in plan.versions.items():
        if state is State.ADDED:
            (fetched / str(version)).rename(model / str(version))


def _swap(plan: Plan, fetched: Path, model: Path) -> bool:
    """Exchanges the assembled new model with the old one; returns whether this file system supports that."""
    if model.is_symlink():
        return False
    whole = fetched.with_name(f"{fetched.name}.whole")
    try:
        _put_together(plan, fetched, model, whole)
        _exchange(whole, model)
    except OSError:
        return False
    # Files that others added after the new folder was assembled are now in the old one.
    for entry in whole.iterdir():
        if not os.path.lexists(model / entry.name):
            entry.rename(model / entry.name)
    return True


def _put_together(plan: Plan, fetched: Path, model: Path, whole: Path) -> None:
    # Links keep inodes and times, so a server sees that an unchanged version did not change.
    shutil.copytree(model, whole, symlinks=True, copy_function=os.link)
    states = {str(version): state for version, state in plan.versions.items()} | plan.files
    for name, state in states.items():
        # A version that appeared meanwhile belongs to others, and makes the copy fail.
        if state is State.REPLACED:
            _remove(whole / name)
        if state is not State.UNCHANGED:
            _link(fetched / name, whole / name)


def _link(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, copy_function=os.link)
    else:
        target.hardlink_to(source)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _exchange(one: Path, other: Path) -> None:
    """Exchanges two folders atomically; Python has no function for it, and not every file system supports it."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if libc.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _change_in_place(plan: Plan, fetched: Path, model: Path) -> None:
    changed = [name for name, state in plan.files.items() if state is not State.UNCHANGED]
    for name in changed:
        if name == WARMUP_FOLDER and plan.files[name] is State.REPLACED:
            (model / name).rename(fetched.with_name(f"{name}.old"))
        if name != CONFIG_FILE:
            (fetched / name).replace(model / name)
    for version, state in plan.versions.items():
        if state is State.REPLACED:
            (model / str(version)).rename(fetched.with_name(f"{version}.old"))
        if state is not State.UNCHANGED:
            (fetched / str(version)).rename(model / str(version))
    # Last, because it may name labels and versions that exist only now.
    if CONFIG_FILE in changed:
        (fetched / CONFIG_FILE).replace(model / CONFIG_FILE)
