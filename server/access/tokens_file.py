"""The file of accepted tokens, followed while the server runs."""

import os
from pathlib import Path
from typing import Any

from pixelserve.text import TextError, read_text
from pixelserve.tokens import Token, TokensError, parse_tokens

from ..errors import ConfigurationError
from ..failures import FailureLog
from ..supervised import PeriodicThread, Supervisor
from .authorizer import Authorizer

# How often the file is checked. A change is read once two checks agree, so never while the file is
# being written. Polling also works on network file systems and mounted secrets.
_LOOK_S = 0.4

_State = tuple[int, ...] | str
"""Detects a file's change; or the reason why it cannot be checked."""


class TokensFile:
    """Makes an authorizer accept the tokens of a file, and of each replacement.

    A wrong, incomplete or missing file changes nothing: the previous tokens stay accepted.

    Args:
        path: the file's.
        authorizer: accepts the tokens.
        log: receives changes and errors of the file; a structlog logger or similar.
        log_failure: logs unexpected errors.
        supervisor: supervises the thread; None: only its failures are logged.
        look_s: seconds between checks of the file.
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
        self._path = path
        self.authorizer = authorizer
        """Accepts its tokens."""
        self._log = log
        self._thread = PeriodicThread(supervisor or Supervisor(log_failure), "tokens", self._look, look_s)
        # The state of the file when it was last read, valid or not, and at the last look.
        self._read_state: _State = ""
        self._seen: _State = ""
        self.failures = 0
        """Number of refused changes."""
        self.is_stale = False
        """Whether the file was refused when last read, so older tokens hold."""

    def load(self) -> None:
        """Reads the file for the first time.

        Raises:
            ConfigurationError: it cannot be read or is invalid.
        """
        self._read_state = self._seen = self._state()
        try:
            self.authorizer.replace(_read(self._path))
        except _Refused as problem:
            raise ConfigurationError(f"--tokens {self._path}: {problem}") from problem

    def start(self) -> None:
        """Starts following the file."""
        self._thread.start()

    def close(self) -> None:
        """Stops following the file."""
        self._thread.close()

    def _look(self) -> None:
        state = self._state()
        is_unchanged, self._seen = state == self._seen, state
        # A file that is being written is read once it rests.
        if is_unchanged and state != self._read_state:
            self._reload(state)

    def _reload(self, state: _State) -> None:
        self._read_state = state
        try:
            tokens = _read(self._path)
        except _Refused as problem:
            self.failures += 1
            self.is_stale = True
            # A file replaced while it was read is read again.
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
    """Operator error: the file cannot be read or is invalid."""


def _read(path: Path) -> tuple[Token, ...]:
    try:
        return parse_tokens(read_text(path))
    except OSError as error:
        raise _Refused(f"cannot be read: {error.strerror}; expected a file of tokens (docs/security.md)") from error
    except (TextError, TokensError) as error:
        raise _Refused(str(error)) from error
