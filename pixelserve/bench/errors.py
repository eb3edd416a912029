"""Errors of load generation."""


class BenchError(Exception):
    """Load cannot be generated, or no request was answered; the message says what to do."""

    exit_code = 1


class NoModelError(BenchError):
    """The server has no such model, or no ready version of it."""

    exit_code = 4


class WorkloadError(BenchError):
    """Caller error: the arguments do not fit the model."""

    exit_code = 2
