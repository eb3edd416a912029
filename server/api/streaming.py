"""Methods with streams, as transports carry them: what opens a call, and how its messages and answers pass."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Protocol

from .call import Call
from .status import Status

Metadata = Sequence[tuple[str, str | bytes]]
"""What a client sent when it opened a call: keys in small letters, and their values."""

HandOver = Callable[[str, bytes, Call], None]
"""Hands one request of a stream to the dispatcher: its method's full name, its bytes and its call. Raises nothing."""


class OpenStream(ABC):
    """One call of a method with streams.

    A transport takes what the client sends (`take`, only while `has_room`; then `finish`) and writes what there is to
    answer (`next_answer`, then `written`) until it `is_over`; then it ends the call with `status`. It is told by its
    `on_change`, from any thread, that there may be more to do. No method blocks or raises.
    """

    status: Status | None = None
    """How the call ends; None: OK."""

    @property
    @abstractmethod
    def has_room(self) -> bool:
        """Whether another message may be taken."""

    @property
    @abstractmethod
    def is_over(self) -> bool:
        """Whether nothing more will be answered."""

    @property
    @abstractmethod
    def has_answer(self) -> bool:
        """Whether there is a message to write now."""

    @abstractmethod
    def take(self, message: bytes) -> None:
        """Takes a message of the client."""

    @abstractmethod
    def finish(self) -> None:
        """Says that the client will send no more."""

    @abstractmethod
    def next_answer(self) -> bytes | None:
        """Takes out the next message to write; None: there is none now."""

    @abstractmethod
    def written(self) -> None:
        """Says that the answer that was taken out last is on the network."""

    @abstractmethod
    def close(self) -> None:
        """Says that the call has ended, be it because the client has left. A second time does nothing."""


class StreamedMethod(Protocol):
    """A method with streams."""

    def open(
        self,
        deadline_s: float | None,
        metadata: Metadata = (),
        *,
        on_change: Callable[[], None] = ...,
        hand_over: HandOver | None = ...,
    ) -> OpenStream:
        """Opens a call, to be closed by the transport.

        Args:
            deadline_s: `time.monotonic()` by which the client gives the call up; None: it did not say.
            metadata: what it sent beside.
            on_change: called from any thread when there may be something to write, or room.
            hand_over: takes requests to the dispatcher; None: they go there at once, one by one.

        Raises:
            RequestError: the call is refused.
        """
