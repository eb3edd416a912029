"""Readers of a repository see the old model or the new one while a model is written."""

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pixelserve.pull import publish as publish_module
from pixelserve.pull.mirror import Mirrored
from pixelserve.pull.publish import State, make_plan, publish

Pull = Callable[..., Mirrored]
State_ = dict[str, bytes]


def visible(repository: Path) -> State_:
    """Returns a server's view: the files of all models, by path, without hidden ones."""
    files = [path for path in repository.glob("[!.]*/**/*") if path.is_file()]
    return {str(path.relative_to(repository)): path.read_bytes() for path in files}


class Onlooker:
    """Looks at a folder before every system call of Python, while enabled."""

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.seen: list[State_] = []
        self.calls: list[str] = []
        self._is_looking = False
        # It cannot be taken away again; without a folder it does nothing.
        sys.addaudithook(self._look)

    def _look(self, event: str, arguments: tuple[object, ...]) -> None:
        if self.folder is None or self._is_looking:
            return
        self._is_looking = True
        self.calls.append(event)
        state = visible(self.folder)
        if not self.seen or self.seen[-1] != state:
            self.seen.append(state)
        self._is_looking = False

    @contextmanager
    def watching(self, folder: Path) -> Iterator[list[State_]]:
        """Gives the different states that were seen, in order; the last one is that after the block."""
        self.folder, self.seen, self.calls = folder, [], []
        try:
            yield self.seen
            self._look("end", ())
        finally:
            self.folder = None


ONLOOKER = Onlooker()


@pytest.fixture
def changed(model: Path, version_writer: Callable[..., Path]) -> Path:
    """The model, which now has another configuration, other labels, a new version and another second one."""
    (model / "config.pbtxt").write_text((model / "config.pbtxt").read_text() + " version_policy { all { } }")
    (model / "labels.txt").write_text("four\nfive\nsix\nseven\n")
    (model / "classes.txt").write_text("new")
    version_writer(model / "2", b"another second")
    version_writer(model / "3", b"the third")
    return model


def test_a_new_model_appears_at_once(pull: Pull, model: Path, repository: Path) -> None:
    repository.mkdir()
    with ONLOOKER.watching(repository) as seen:
        pull(model)
    assert len(ONLOOKER.calls) > 20
    assert seen == [{}, visible(model.parent)]


def test_versions_appear_whole_one_after_the_other(
    pull: Pull, model: Path, repository: Path, version_writer: Callable[..., Path]
) -> None:
    pull(model)
    version_writer(model / "9", b"the ninth")
    version_writer(model / "10", b"the tenth")
    with ONLOOKER.watching(repository) as seen:
        pull(model)
    versions = [{path.split("/")[1] for path in state if path.count("/") == 2} for state in seen]
    assert versions == [{"1", "2"}, {"1", "2", "9"}, {"1", "2", "9", "10"}]
    after = visible(model.parent)
    assert all(state == {path: after[path] for path in state} for state in seen)
    assert all(len([path for path in state if "/9/" in path]) in (0, 3) for state in seen)


def test_a_change_of_everything_appears_at_once(pull: Pull, changed: Path, repository: Path, tmp_path: Path) -> None:
    pull(changed, versions=frozenset({1}))
    (repository / "digits" / "labels.txt").write_text("somebody edited this")
    before = visible(repository)
    with ONLOOKER.watching(repository) as seen:
        mirrored = pull(changed)
    assert seen == [before, visible(changed.parent)]
    assert mirrored.plan.files["labels.txt"] is State.REPLACED


def test_a_version_that_stays_keeps_what_a_server_knows_it_by(
    pull: Pull, changed: Path, repository: Path, version_writer: Callable[..., Path]
) -> None:
    pull(changed, versions=frozenset({1}))
    version_writer(repository / "digits" / "7", b"somebody else's")

    def prints() -> list[Any]:
        files = [path for version in "17" for path in sorted((repository / "digits" / version).iterdir())]
        return [(path, path.stat().st_ino, path.stat().st_mtime_ns, path.stat().st_size) for path in files]

    before = prints()
    (changed / "labels.txt").write_text("eight\n")
    pull(changed)
    assert prints() == before


def test_files_added_by_others_meanwhile_are_kept(
    pull: Pull, changed: Path, repository: Path, monkeypatch: pytest.MonkeyPatch, version_writer: Callable[..., Path]
) -> None:
    pull(changed, versions=frozenset({1}))
    (changed / "labels.txt").write_text("eight\n")
    exchange = publish_module._exchange

    def late(one: Path, other: Path) -> None:
        version_writer(other / "8", b"just in time")
        exchange(one, other)

    monkeypatch.setattr(publish_module, "_exchange", late)
    pull(changed)
    assert len(list((repository / "digits" / "8").iterdir())) == 3


@pytest.fixture(params=["no exchange", "no links", "a link to the model"])
def plain_disk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, repository: Path) -> Callable[[], None]:
    """Simulates a file system without atomic swaps."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    def spoil() -> None:
        if request.param == "no exchange":
            monkeypatch.setattr(publish_module, "_exchange", refuse)
        elif request.param == "no links":
            monkeypatch.setattr(os, "link", refuse)
        else:
            (repository / "digits").rename(repository / "elsewhere")
            (repository / "digits").symlink_to("elsewhere")

    return spoil


def test_where_folders_cannot_change_places_versions_and_labels_come_before_the_configuration(
    pull: Pull, changed: Path, repository: Path, plain_disk: Callable[[], None]
) -> None:
    pull(changed, versions=frozenset({1, 2}))
    old = {"config.pbtxt": "max_batch_size: 1", "labels.txt": "old", "2/model.onnx": "old"}
    for name, text in old.items():
        (repository / "digits" / name).write_text(text)
    plain_disk()
    with ONLOOKER.watching(repository) as seen:
        pull(changed, replace=True)
    new = visible(changed.parent)
    digits = [{path: data for path, data in state.items() if path.startswith("digits/")} for state in seen]
    assert digits[-1] == new
    for state in digits:
        if state["digits/config.pbtxt"] == new["digits/config.pbtxt"]:
            assert state == new
        # Every visible version is complete.
        assert len([path for path in state if "/3/" in path]) in (0, 3)
        assert state["digits/1/model.onnx"] == b"the first"
    assert [path.name for path in repository.iterdir() if path.name.startswith(".")] == []


def test_a_link_to_a_model_stays_one(pull: Pull, changed: Path, repository: Path) -> None:
    pull(changed, versions=frozenset({1}))
    (repository / "digits").rename(repository / "elsewhere")
    (repository / "digits").symlink_to("elsewhere")
    (changed / "labels.txt").write_text("eight\n")
    pull(changed)
    assert (repository / "digits").is_symlink()
    assert (repository / "elsewhere" / "labels.txt").read_text() == "eight\n"


def test_a_model_that_appears_in_the_meantime_is_not_overwritten(tmp_path: Path, model: Path) -> None:
    target = tmp_path / "digits"
    plan = make_plan(model, target, replace=False)
    target.mkdir()
    (target / "config.pbtxt").write_text("somebody else's")
    (target / "1").mkdir()
    (target / "1" / "model.onnx").write_text("somebody else's")
    with pytest.raises(OSError, match="not empty"):
        publish(plan, model, target)
    assert (target / "config.pbtxt").read_text() == "somebody else's"


def write_warmup(model: Path, text: str) -> None:
    (model / "warmup").mkdir(exist_ok=True)
    (model / "warmup" / "image").write_text(text)


def test_the_files_of_a_warm_up_come_with_the_model(pull: Pull, model: Path, repository: Path) -> None:
    write_warmup(model, "first")
    assert pull(model).plan.files["warmup"] is State.ADDED
    assert visible(repository) == visible(model.parent)
    assert pull(model).plan.files["warmup"] is State.UNCHANGED
    write_warmup(model, "second")
    before = visible(repository)
    with ONLOOKER.watching(repository) as seen:
        assert pull(model).plan.files["warmup"] is State.REPLACED
    assert seen == [before, visible(model.parent)]


def test_they_are_replaced_on_a_plain_disk_too(
    pull: Pull, model: Path, repository: Path, plain_disk: Callable[[], None]
) -> None:
    write_warmup(model, "first")
    pull(model)
    write_warmup(model, "second")
    plain_disk()
    pull(model)
    found = {name: data for name, data in visible(repository).items() if name.startswith("digits/")}
    assert found == visible(model.parent)
    assert not [path for path in repository.iterdir() if path.name.startswith(".")]
