"""The file of tokens that a server accepts, followed while it runs."""

import os
import threading
from pathlib import Path
from typing import Any

from pixelserve.text import TextError, read_text
from pixelserve.tokens import Token, TokensError, parse_tokens

from ..errors import ConfigurationError
from ..failures import FailureLog
from ..supervised import Supervisor
from .authorizer import Authorizer

# How often the file is looked at. A change is read once two looks agree, so a file that
# is still being written is not. Looking also works on network file systems and mounted secrets.
_LOOK_S = 0.4

_State = tuple[int, ...] | str
"""By what a file's change is noticed; why it cannot be looked at, in words."""


class TokensFile:
    """Has an authorizer accept the tokens of a file, and of each that takes its place.

    A file that is wrong, incomplete or missing changes nothing: the tokens before it stay accepted.
    """

    def __init__(
        self,
        path: Path,
        authorizer: Authorizer,
        log: Any,
        log_failure: FailureLog,
        supervisor: Supervisor | None = None,
        *,
        look_s: float = _LOOK_S,
    ) -> None:
        """Stores what it is handed.

        Args:
            path: the file's.
            authorizer: accepts the tokens.
            log: is told of changes, and of files that are wrong: structlog's or the like.
            log_failure: logs what should not happen.
            supervisor: watches over the thread; None: only its failures are logged.
            look_s: seconds between two looks at the file.
        """
        self._path = path
        self.authorizer = authorizer
        """Accepts its tokens."""
        self._log = log
        self._log_failure = log_failure
        self._look_s = look_s
        self._stop = threading.Event()
        self._thread = (supervisor or Supervisor(log_failure)).thread("tokens", self._follow)
        # The state of the file that was read last, right or wrong.
        self._read_state: _State = ""
        self.failures = 0
        """How many changes were refused."""
        self.is_stale = False
        """Whether the file was refused when it was last read, so that older tokens hold."""

    def load(self) -> None:
        """Reads the file for the first time.

        Raises:
            ConfigurationError: it cannot be read, or is wrong.
        """
        self._read_state = self._state()
        try:
            self.authorizer.replace(_read(self._path))
        except _Refused as problem:
            raise ConfigurationError(f"--tokens {self._path}: {problem}") from problem

    def start(self) -> None:
        """Starts to follow it."""
        self._thread.start()

    def close(self) -> None:
        """Stops that."""
        self._stop.set()
        self._thread.close()

    def _follow(self) -> None:
        seen = self._read_state
        while not self._stop.wait(self._look_s):
            try:
                state = self._state()
                is_settled, seen = state == seen, state
                if is_settled and state != self._read_state:
                    self._reload(state)
            except Exception as error:  # noqa: BLE001  revoking must go on working, whatever happens once
                self._log_failure(error)

    def _reload(self, state: _State) -> None:
        self._read_state = state
        try:
            tokens = _read(self._path)
        except _Refused as problem:
            self.failures += 1
            self.is_stale = True
            # A file that was replaced while it was read is read again.
            if self._state() == state:
                kept = self.authorizer.count
                self._log.error("tokens file refused", path=str(self._path), reason=str(problem), tokens_kept=kept)
            return
        self.authorizer.replace(tokens)
        self.is_stale = False
        self._log.info("tokens changed", path=str(self._path), tokens=len(tokens))

    def _state(self) -> _State:
        try:
            found = os.stat(self._path)  # noqa: PTH116  what follows is the same for both
        except OSError as error:
            return error.strerror or type(error).__name__
        return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino, found.st_dev, found.st_mode


class _Refused(Exception):
    """The operator's fault: the file cannot be read, or is wrong."""


def _read(path: Path) -> tuple[Token, ...]:
    try:
        return parse_tokens(read_text(path))
    except OSError as error:
        raise _Refused(f"cannot be read: {error.strerror}; expected a file of tokens (docs/security.md)") from error
    except (TextError, TokensError) as error:
        raise _Refused(str(error)) from error
