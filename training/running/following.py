"""What follows a run while it trains: the page of `--watch` and the log of `--mlflow`."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from .checkpoint import Checkpoint, State
from .live import LivePage
from .tracking import Tracking


class Follower(Protocol):
    """Follows one run. Called in the training thread, between epochs; only `begin` may raise."""

    def begin(self, state: State) -> None:
        """Starts before training, with the epochs that an earlier process finished."""

    def follow(self, state: State) -> None:
        """Takes a finished epoch."""

    def finish(self, state: State) -> None:
        """Ends after the run's folder was written."""

    def stop(self, state: State) -> None:
        """Ends if the run failed or was stopped."""


def followers(run: Path, *, watch: bool, mlflow: str | None) -> list[Follower]:
    """Returns the followers that a caller chose for the run of a folder."""
    chosen: list[Follower] = []
    if watch:
        chosen.append(LivePage(run))
    if mlflow is not None:
        chosen.append(Tracking(run, mlflow))
    return chosen


@contextlib.contextmanager
def followed(checkpoint: Checkpoint, followers: Sequence[Follower]) -> Iterator[None]:
    """Lets followers take part in a block that trains a run and writes its folder.

    Raises:
        WriteError: a page or log cannot be written.
        MissingLibraryError: a library is not installed.
    """
    begun: list[Follower] = []
    try:
        for each in followers:
            each.begin(checkpoint.state)
            begun.append(each)
        checkpoint.followers = [each.follow for each in begun]
        yield
    except BaseException:
        for each in begun:
            each.stop(checkpoint.state)
        raise
    for each in begun:
        each.finish(checkpoint.state)
