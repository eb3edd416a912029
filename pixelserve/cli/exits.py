"""The exit codes of the `pixelserve` command, each with its meaning; docs/cli.md holds the same table."""

from enum import IntEnum


class Exit(IntEnum):
    """What the command's exit code says."""

    meaning: str

    def __new__(cls, code: int, meaning: str) -> "Exit":
        """Makes a code that knows its meaning."""
        member = int.__new__(cls, code)
        member._value_ = code
        member.meaning = meaning
        return member

    OK = 0, "everything asked for was done; serve: also if it was stopped before it served"
    FAILED = 1, "it failed; the sentence on stderr says why"
    USAGE = 2, "an argument or option is wrong; nothing was done"
    MISSING_EXTRA = 3, "a library is missing; the sentence names the extra to install"
    REFUSED = 4, "the server refused the request, and would again: no such model, a wrong value, no permission"
    NOT_NOW = 5, "no server there, or it is busy, draining or too slow: another time may do"
    SERVER_FAILED = 6, "the server, or something between, is at fault; its log says more"
    SOME_PICTURES_FAILED = 10, "classify: some pictures could not be classified; their rows say why"
    NOT_SERVING = 11, "health: the server answered, and is not serving"
    TOO_SLOW = 12, "bench: p99 is above --assert-p99-ms"
    UNFINISHED = 13, "serve: the grace ran out before every accepted request was answered and its answer sent"
    OTHER_FIGURES = 14, "evaluate: a figure measured again is not the card's; zoo: it misses the recipe's goal"
    UNSERVABLE = 15, "doctor: something in the repository would not be served"
    INTERRUPTED = 130, "stopped by Ctrl-C; nothing half-written is left"
    READER_LEFT = 141, "the program that read stdout has ended, such as head; nothing more was printed"


class CommandError(Exception):
    """A command cannot do what it was asked; the message says why and what to do."""

    def __init__(self, message: str, exit_code: int = Exit.FAILED) -> None:
        """Stores the sentence for stderr and the command's exit code."""
        super().__init__(message)
        self.exit_code = int(exit_code)
