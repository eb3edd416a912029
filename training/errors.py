"""Errors of training and export.

    TrainingError                 anything that stops a run or an export
    ├── UsageError                caller error: incompatible options, or an unknown name
    │   └── TargetExistsError     caller error: the target exists already
    ├── DataError                 data error: the data set's files are missing or damaged
    ├── SourceError               model error: the file cannot be read, or cannot be exported
    ├── SamplesError              data error: samples or labels do not fit the model
    ├── DivergedError             run error: the loss is NaN or infinite
    ├── WeakMemberError           run error: an ensemble's member is no better than guessing
    ├── RunInterruptedError       Ctrl-C or SIGTERM stopped the run
    ├── ParityError               conversion error: the exported model differs from the original
    ├── WriteError                disk error: no space left, or no permission
    └── MissingLibraryError       installation error: a library of the extra `training` is missing

Each message is one sentence that names the thing, what was expected, and the remedy.
"""


class TrainingError(Exception):
    """Anything that stops a run or an export; `exit_code` is the command's."""

    exit_code = 1


class UsageError(TrainingError):
    """Caller error: incompatible options, or an unknown name."""

    exit_code = 2


class TargetExistsError(UsageError):
    """The target exists already, and is not overwritten."""


class DataError(TrainingError):
    """The data set's files are missing or damaged."""

    exit_code = 2


class SourceError(TrainingError):
    """The model file cannot be read, or cannot be exported."""

    exit_code = 2


class SamplesError(TrainingError):
    """The samples or labels do not fit the model."""

    exit_code = 2


class DivergedError(TrainingError):
    """The loss or a weight is NaN or infinite, so training cannot continue."""

    def __init__(self, *, epoch: int, step: int) -> None:
        """`epoch` and `step` count from 1."""
        super().__init__(
            f"the loss or a weight became NaN or infinite at step {step} of epoch {epoch}, so training stopped and "
            f"wrote no run; try a smaller --lr first, then a larger --batch-size or another --seed"
        )
        self.epoch = epoch
        self.step = step


class WeakMemberError(TrainingError):
    """A member of an ensemble is no better than guessing."""


class RunInterruptedError(TrainingError):
    """Ctrl-C or SIGTERM stopped the run; the message says what is kept and how to resume."""

    exit_code = 130


class ParityError(TrainingError):
    """The exported model differs from the original."""


class WriteError(TrainingError):
    """It cannot be written: no space left, no permission, or a file in the way."""


class MissingLibraryError(TrainingError):
    """A library of the extra `training` is missing."""

    exit_code = 3
