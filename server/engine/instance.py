"""A session, and its replacement if it keeps failing."""

import threading
from collections.abc import Callable, Mapping
from typing import Any, Generic, Protocol, TypeVar

from .curve import UNMEASURED, LatencyCurve
from .tensors import Array

# This many failed runs in a row make a session suspect.
_SUSPECT_AFTER = 3


class Runner(Protocol):
    """Computes batches; a `Session`, or a fake in tests."""

    def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """Computes all outputs of input tensors, both by name."""


R = TypeVar("R", bound=Runner)


class BrokenInstance(Exception):
    """A session fails even on its sample from load, and so does its replacement."""


def _nothing_wrong(_: Runner) -> None:
    pass


def _unmeasured(_: Runner) -> LatencyCurve:
    return UNMEASURED


class Instance(Generic[R]):
    """A session of a model. One run at a time.

    Args:
        session: computes batches.
        warm: runs and times all expected batch sizes.
        check: raises if a session cannot compute a known good sample.
        rebuild: loads a replacement, or None.
    """

    def __init__(
        self,
        session: R,
        *,
        warm: Callable[[R], LatencyCurve] = _unmeasured,
        check: Callable[[R], None] = _nothing_wrong,
        rebuild: Callable[[], R] | None = None,
    ) -> None:
        self._session = session
        self._warm = warm
        self._check = check
        self._rebuild = rebuild
        self._failures = 0

    def warm(self) -> LatencyCurve:
        """Warms the session; raises what that raises.

        Call it on the thread that will run its batches: captured graphs belong to their thread.
        """
        return self._warm(self._session)

    def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """Computes all outputs of input tensors, both by name; raises what the session raises."""
        try:
            outputs = self._session.run(inputs)
        except Exception:
            self._failures += 1
            raise
        self._failures = 0
        return outputs

    def repair(self) -> bool:
        """Checks, after several failed runs in a row, whether the session is to blame; returns whether it was replaced.

        A sender of requests on which any session would fail must not be able to disable a model, so the session first
        computes a good sample.

        Raises:
            BrokenInstance: the session is to blame, and its replacement fails too.
        """
        if self._failures < _SUSPECT_AFTER:
            return False
        self._failures = 0
        try:
            self._check(self._session)
        except BaseException as error:  # noqa: BLE001  after any error, it cannot compute
            self._session = self._successor(error)
            return True
        return False

    def _successor(self, cause: BaseException) -> R:
        if self._rebuild is None:
            raise BrokenInstance(str(cause)) from cause
        try:
            session = self._rebuild()
            self._warm(session)
            self._check(session)
        except BaseException as error:
            raise BrokenInstance(str(error)) from error
        return session


class Start:
    """The result of warming an instance, on the thread that will use it."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.curve = UNMEASURED
        self.error: BaseException | None = None

    def run(self, instance: Instance[Any]) -> None:
        """Warms an instance; never raises."""
        try:
            self.curve = instance.warm()
        except BaseException as error:  # noqa: BLE001  raised where the batcher is started
            self.error = error
        self.done.set()
