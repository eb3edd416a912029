"""What training and export refuse, and why.

    TrainingError                 anything that stops a run or an export
    ├── UsageError                the caller's: options that do not fit together, or an unknown name
    │   └── TargetExistsError     the caller's: what would be written is already there
    ├── DataError                 the data set's: its files are missing or damaged
    ├── SourceError               the model file's: it cannot be read, or it is no model that can be exported
    ├── SamplesError              the samples' or labels': they do not fit the model
    ├── DivergedError             the run's: the loss is no number any more
    ├── WeakMemberError           the run's: an ensemble's member is no better than guessing
    ├── RunInterruptedError       nobody's: Ctrl-C or SIGTERM stopped the run
    ├── ParityError               the conversion's: the exported model computes something else than the original
    ├── WriteError                the disk's: no space left, or no permission
    └── MissingLibraryError       the installation's: a library of the extra `training` is missing

Each message is one sentence that names the thing, what was expected, and the remedy.
"""


class TrainingError(Exception):
    """Anything that stops a run or an export; `exit_code` is the command's."""

    exit_code = 1


class UsageError(TrainingError):
    """The caller asked for something that cannot be: options that do not fit together, or an unknown name."""

    exit_code = 2


class TargetExistsError(UsageError):
    """What would be written is already there, and nothing is overwritten."""


class DataError(TrainingError):
    """The data set's files are missing or damaged."""

    exit_code = 2


class SourceError(TrainingError):
    """The model to export cannot be read, or it is none that can be exported."""

    exit_code = 2


class SamplesError(TrainingError):
    """The samples or labels do not fit the model."""

    exit_code = 2


class DivergedError(TrainingError):
    """The loss, or a weight, is no number any more, so going on would train nothing."""

    def __init__(self, *, epoch: int, step: int) -> None:
        """Stores where it happened; `epoch` and `step` count from 1."""
        super().__init__(
            f"the loss or a weight became NaN or infinite at step {step} of epoch {epoch}, so training stopped and "
            f"wrote no run; try a smaller --lr first, then a larger --batch-size or another --seed"
        )
        self.epoch = epoch
        self.step = step


class WeakMemberError(TrainingError):
    """A member of an ensemble is no better than guessing, so there is nothing to build on."""


class RunInterruptedError(TrainingError):
    """Ctrl-C or SIGTERM stopped the run; the message says what is kept and how to go on."""

    exit_code = 130


class ParityError(TrainingError):
    """The exported model computes something else than the original."""


class WriteError(TrainingError):
    """The disk does not take what is to be written: no space left, no permission, or a file in the way."""


class MissingLibraryError(TrainingError):
    """A library of the extra `training` is missing."""

    exit_code = 3
