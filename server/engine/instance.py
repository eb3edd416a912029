"""A session that computes, and what is done about one that keeps failing."""

from collections.abc import Callable, Mapping
from typing import Protocol

from .tensors import Array

# So many failed runs in a row make a session suspect.
_SUSPECT_AFTER = 3


class Runner(Protocol):
    """What an instance drives; a `Session`, or a fake in tests."""

    def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """Computes all outputs of input tensors, both by name."""


class BrokenInstance(Exception):
    """A session fails even on the sample that it computed when it was loaded, and so does its successor."""


def _never_broken(_: Runner) -> None:
    """Finds nothing wrong."""


class Instance:
    """A session of a model. One run at a time."""

    def __init__(
        self,
        session: Runner,
        *,
        check: Callable[[Runner], None] = _never_broken,
        rebuild: Callable[[], Runner] | None = None,
    ) -> None:
        """Stores what it is handed.

        Args:
            session: computes.
            check: raises where a session cannot compute a sample that it must be able to compute.
            rebuild: loads the session anew; None: it cannot be.
        """
        self._session = session
        self._check = check
        self._rebuild = rebuild
        self._failures = 0

    def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """Computes all outputs of input tensors, both by name; raises whatever the session raises."""
        try:
            outputs = self._session.run(inputs)
        except Exception:
            self._failures += 1
            raise
        self._failures = 0
        return outputs

    def repair(self) -> bool:
        """Looks, after several failed runs in a row, whether the session is to blame; returns whether it was replaced.

        A sender of requests on which any session would fail must not be able to switch a model off, so the session
        gets to compute a good sample first.

        Raises:
            BrokenInstance: the session is to blame, and one that was loaded anew fails too.
        """
        if self._failures < _SUSPECT_AFTER:
            return False
        self._failures = 0
        try:
            self._check(self._session)
        except Exception as error:  # noqa: BLE001  whatever it raises, it cannot compute
            self._session = self._successor(error)
            return True
        return False

    def _successor(self, cause: Exception) -> Runner:
        if self._rebuild is None:
            raise BrokenInstance(str(cause)) from cause
        try:
            session = self._rebuild()
            self._check(session)
        except Exception as error:
            raise BrokenInstance(str(error)) from error
        return session
