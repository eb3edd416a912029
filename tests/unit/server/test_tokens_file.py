"""The tokens file: read at start-up, and reloaded after changes."""

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pixelserve.tokens import Scope, Token, digest_of
from pixelserve_server.access.authorizer import Authorizer
from pixelserve_server.access.tokens_file import TokensFile
from pixelserve_server.errors import ConfigurationError, Unauthenticated
from pixelserve_server.failures import FailureLog

PATIENCE_S = 20
FIRST, SECOND = "ps_first", "ps_second"


def line(secret: str, *, ending: str = "\n") -> str:
    return Token(digest_of(secret), secret[3:], frozenset({Scope.INFER})).line() + ending


class Log:
    """Keeps log events, and lets a test wait for them."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, dict[str, Any]]] = []
        self._changed = threading.Condition()

    def info(self, event: str, **fields: Any) -> None:
        self._add("info", event, fields)

    def error(self, event: str, **fields: Any) -> None:
        self._add("error", event, fields)

    def _add(self, level: str, event: str, fields: dict[str, Any]) -> None:
        with self._changed:
            self.lines.append((level, event, fields))
            self._changed.notify_all()

    def wait_for(self, count: int) -> dict[str, Any]:
        """Returns the fields of the line that comes as number `count`."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.lines) >= count, PATIENCE_S), self.lines
            return self.lines[count - 1][2]


class Watched:
    """A followed file, and the tokens that it accepts."""

    def __init__(self, path: Path, look_s: float) -> None:
        self.path = path
        self.log = Log()
        self.failures: list[BaseException] = []
        self.authorizer = Authorizer(())
        self.file = TokensFile(path, self.authorizer, self.log, FailureLog(self), look_s=look_s)

    def error(self, event: str, **fields: Any) -> None:
        self.failures.append(fields["exc_info"])

    def accepts(self, secret: str) -> bool:
        try:
            self.authorizer.authenticate([("authorization", f"Bearer {secret}")])
        except Unauthenticated:
            return False
        return True

    def replace(self, text: str | bytes) -> None:
        beside = self.path.with_suffix(".new")
        beside.write_bytes(text if isinstance(text, bytes) else text.encode())
        beside.replace(self.path)


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Callable[..., Watched]]:
    watched: list[Watched] = []

    def start(text: str | bytes = line(FIRST), *, look_s: float = 0.005, follow: bool = True) -> Watched:
        path = tmp_path / "tokens"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        watched.append(Watched(path, look_s))
        watched[-1].file.load()
        if follow:
            watched[-1].file.start()
        return watched[-1]

    yield start
    for each in watched:
        each.file.close()
        assert each.failures == []


@pytest.mark.parametrize(
    "text",
    [
        line(FIRST),
        line(FIRST, ending="\r\n"),
        b"\xef\xbb\xbf" + line(FIRST).encode(),
        line(FIRST, ending="\r\n").encode("utf-16"),
        "# für den Laden\n" + line(FIRST),
    ],
    ids=["plain", "CRLF", "UTF-8 with a mark", "UTF-16", "comment"],
)
def test_a_file_is_read_as_editors_write_it(watch: Callable[..., Watched], text: str | bytes) -> None:
    watched = watch(text, follow=False)
    assert (watched.accepts(FIRST), watched.accepts(SECOND)) == (True, False)


WRONG: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "no tokens"),
    "cut off": (line(FIRST)[:-1], "no line end"),
    "not a digest": ("hello\n", "line 1: begins with 5 characters"),
    "twice": (line(FIRST) * 2, "line 2: has the digest of line 1 again"),
    "no scopes": (line(FIRST).replace("infer", ""), "line 1: scopes is empty"),
    "unknown scope": (line(FIRST).replace("infer", "root"), 'line 1: scope "root" is unknown'),
    "zero bytes": (b"\0" * 100 + b"\n", "zero bytes"),
    "not text": (b"\xff\xff\n", "UTF-8"),
    "huge": (b"#" * ((16 << 20) + 1), "it has 16,777,217 bytes; at most 16,777,216 are read"),
}


@pytest.mark.parametrize(("text", "said"), WRONG.values(), ids=WRONG)
def test_a_server_does_not_start_on_a_wrong_file(watch: Callable[..., Watched], text: str | bytes, said: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"^--tokens .*/tokens: .*{said}"):
        watch(text)


def test_a_server_does_not_start_without_the_file_or_with_a_folder_or_a_pipe_in_its_place(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, said in (("none", "cannot be read: No such file"), (".", "not a file"), ("pipe", "not a file")):
        with pytest.raises(ConfigurationError, match=said):
            Watched(tmp_path / name, 1).file.load()


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "tokens").write_text(line(FIRST))
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(
        ConfigurationError, match=r"tokens: cannot be read: Permission denied; expected a file of tokens"
    ):
        Watched(tmp_path / "tokens", 1).file.load()


def test_a_changed_file_takes_effect_and_what_is_not_in_it_ends(watch: Callable[..., Watched]) -> None:
    watched = watch()
    watched.replace(line(FIRST) + line(SECOND))
    assert watched.log.wait_for(1) == {"path": str(watched.path), "tokens": 2}
    assert (watched.accepts(FIRST), watched.accepts(SECOND)) == (True, True)
    watched.replace(line(SECOND))
    watched.log.wait_for(2)
    assert (watched.accepts(FIRST), watched.accepts(SECOND)) == (False, True)
    assert [(level, event) for level, event, _ in watched.log.lines] == [("info", "tokens changed")] * 2


@pytest.mark.parametrize(("text", "said"), WRONG.values(), ids=WRONG)
def test_a_wrong_file_keeps_the_tokens_before_it_and_says_why(
    watch: Callable[..., Watched], text: str | bytes, said: str
) -> None:
    watched = watch()
    watched.replace(text)
    fields = watched.log.wait_for(1)
    assert said in fields["reason"]
    assert fields["tokens_kept"] == 1
    assert watched.accepts(FIRST)
    assert (watched.file.failures, watched.file.is_stale) == (1, True)
    watched.replace(line(SECOND))
    watched.log.wait_for(2)
    assert (watched.accepts(FIRST), watched.accepts(SECOND)) == (False, True)
    assert (watched.file.failures, watched.file.is_stale) == (1, False)


def test_a_file_that_is_gone_or_becomes_a_folder_keeps_the_tokens_and_is_read_when_it_is_back(
    watch: Callable[..., Watched],
) -> None:
    watched = watch()
    watched.path.unlink()
    assert "No such file" in watched.log.wait_for(1)["reason"]
    watched.path.mkdir()
    assert "not a file" in watched.log.wait_for(2)["reason"]
    assert watched.accepts(FIRST)
    watched.path.rmdir()
    # Gone again, for a moment or for longer: told or not.
    watched.replace(line(SECOND))
    while not watched.accepts(SECOND):
        watched.log.wait_for(len(watched.log.lines) + 1)
    assert not watched.file.is_stale


def test_a_problem_is_said_once_and_not_at_every_look(
    watch: Callable[..., Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = watch(look_s=0.001)
    watched.replace("hello\n")
    watched.log.wait_for(1)
    looks = threading.Semaphore(0)
    look = watched.file._state

    def counted() -> Any:
        looks.release()
        return look()

    monkeypatch.setattr(watched.file, "_state", counted)
    for _ in range(10):
        assert looks.acquire(timeout=PATIENCE_S)
    watched.replace(line(SECOND))
    watched.log.wait_for(2)
    assert [event for _, event, _ in watched.log.lines] == ["tokens file refused", "tokens changed"]


def test_a_mounted_secret_that_is_swapped_by_its_link_is_noticed(tmp_path: Path) -> None:
    """Kubernetes: tokens → ..data/tokens, and ..data → a folder by its time, replaced in one step."""
    for name, secret in (("one", FIRST), ("two", SECOND)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tokens").write_text(line(secret))
    (tmp_path / "data").symlink_to("one")
    (tmp_path / "tokens").symlink_to("data/tokens")
    watched = Watched(tmp_path / "tokens", 0.005)
    watched.file.load()
    watched.file.start()
    try:
        assert watched.accepts(FIRST)
        (tmp_path / "next").symlink_to("two")
        (tmp_path / "next").replace(tmp_path / "data")
        watched.log.wait_for(1)
        assert (watched.accepts(FIRST), watched.accepts(SECOND)) == (False, True)
    finally:
        watched.file.close()


def test_a_file_is_read_only_once_it_rests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Timeline of looks: 1 the file as it was; 2, 3, 4 each finds another state; 5 finds that of 4, and it is read."""
    (tmp_path / "tokens").write_text(line(SECOND))
    watched = Watched(tmp_path / "tokens", 0.0)
    states = iter([(0,), (1,), (2,), (3,), (3,)])
    looks: list[int] = []

    def state() -> tuple[int, ...]:
        looks.append(watched.authorizer.count)
        found = next(states, None)
        if found is None:
            watched.file._thread._stop.set()
            return (3,)
        return found

    monkeypatch.setattr(watched.file, "_state", state)
    watched.file._read_state = watched.file._seen = (0,)
    watched.file.start()
    watched.file._thread._thread.close(PATIENCE_S)
    assert looks == [0, 0, 0, 0, 0, 1]


def test_closing_without_starting_is_not_an_error(tmp_path: Path) -> None:
    Watched(tmp_path / "tokens", 1).file.close()
