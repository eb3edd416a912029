"""The cores, durations and transport of all measurements."""

from dataclasses import dataclass

from .cores import Cores
from .ours import Transport


@dataclass(frozen=True)
class Setup:
    """The common setup of all measurements of a run."""

    cores: Cores
    """Where."""
    seconds: float
    """Seconds per measurement."""
    warm_up_s: float
    """Seconds of load before each measurement."""
    transport: Transport = Transport.AUTO
    """The transport of servers whose name does not specify one."""
