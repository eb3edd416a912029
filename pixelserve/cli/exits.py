"""The exit codes of the `pixelserve` command, each with its meaning; docs/cli.md holds the same table."""

from enum import IntEnum


class Exit(IntEnum):
    """The command's exit codes."""

    meaning: str

    def __new__(cls, code: int, meaning: str) -> "Exit":
        """Adds the meaning to the code."""
        member = int.__new__(cls, code)
        member._value_ = code
        member.meaning = meaning
        return member

    OK = 0, "success; serve: also if stopped before it served"
    FAILED = 1, "failure; the message on stderr says why"
    USAGE = 2, "wrong argument or option; nothing was done"
    MISSING_EXTRA = 3, "missing library; the message names the extra to install"
    REFUSED = 4, "the server refused the request permanently: unknown model, wrong value, no permission"
    NOT_NOW = 5, "the server is unreachable, busy, draining or too slow, or autotune's machine is busy; try again later"
    SERVER_FAILED = 6, "the server or the network failed; see the server's log"
    PICTURE_FAILED = 10, "classify, show: a picture could not be classified; its row or the message says why"
    NOT_SERVING = 11, "health: the server is not serving"
    TOO_SLOW = 12, "bench: p99 is above --assert-p99-ms"
    UNFINISHED = 13, "serve: the grace ended before every accepted request's answer was sent"
    OTHER_FIGURES = 14, "evaluate: a figure differs from the card's; zoo: it misses the recipe's goal"
    UNSERVABLE = 15, "doctor: something in the repository would not be served"
    INTERRUPTED = 130, "stopped by Ctrl-C; no partial files are left"
    READER_LEFT = 141, "the reader of stdout, such as head, exited"


class CommandError(Exception):
    """A command failed; the message says why and what to do."""

    def __init__(self, message: str, exit_code: int = Exit.FAILED) -> None:
        super().__init__(message)
        self.exit_code = int(exit_code)
