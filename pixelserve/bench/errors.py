"""What can keep load from being generated."""


class BenchError(Exception):
    """Load cannot be generated, or nothing came of it; the message says what to do."""

    exit_code = 1


class NoModelError(BenchError):
    """The server has no such model, or no version of it that is ready."""

    exit_code = 4


class WorkloadError(BenchError):
    """The caller's fault: no requests can be made from these arguments for this model."""

    exit_code = 2
