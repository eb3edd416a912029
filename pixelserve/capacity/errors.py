"""Errors of capacity planning."""


class PlanError(Exception):
    """Caller error: the curve is not usable, or no number of pods keeps the p99; the message says what to do."""

    exit_code = 2
