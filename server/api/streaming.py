"""The interface between transports and streaming methods."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Protocol

from .call import Call
from .status import CallStatus

Metadata = Sequence[tuple[str, str | bytes]]
"""A client's metadata, with keys in lower case."""

HandOver = Callable[[str, bytes, Call], None]
"""Dispatches one request of a stream: its method's full name, its bytes and its call. Never raises."""


class OpenStream(ABC):
    """One streaming call.

    A transport passes in the client's messages (`take`, only while `has_room`; then `finish`) and writes the answers
    (`next_answer`, then `written`) until it `is_over`; then it ends the call with `status`. Its `on_change` is called,
    from any thread, when there may be more to do. No method blocks or raises.
    """

    status: CallStatus | None = None
    """The final status; None: OK."""

    @property
    @abstractmethod
    def has_room(self) -> bool:
        """Whether another message may be passed in."""

    @property
    @abstractmethod
    def is_over(self) -> bool:
        """Whether there will be no more answers."""

    @property
    @abstractmethod
    def has_answer(self) -> bool:
        """Whether there is a message to write now."""

    @abstractmethod
    def take(self, message: bytes) -> None:
        """Receives a client's message."""

    @abstractmethod
    def finish(self) -> None:
        """The client will send no more."""

    @abstractmethod
    def next_answer(self) -> bytes | None:
        """Removes and returns the next message to write, or None."""

    @abstractmethod
    def written(self) -> None:
        """The last returned answer was sent."""

    @abstractmethod
    def close(self) -> None:
        """The call ended or the client left. Idempotent."""


class StreamedMethod(Protocol):
    """A streaming method."""

    def open(
        self,
        deadline_s: float | None,
        metadata: Metadata = (),
        *,
        on_change: Callable[[], None] = ...,
        hand_over: HandOver | None = ...,
    ) -> OpenStream:
        """Opens a call, which the transport must close.

        Args:
            deadline_s: the client's deadline by `time.monotonic()`, or None.
            metadata: the client's metadata.
            on_change: called from any thread when there may be answers or room.
            hand_over: dispatches requests; None: they are dispatched at once, one by one.

        Raises:
            RequestError: the call is refused.
        """
