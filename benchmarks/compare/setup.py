"""Where, how long and over which transport everything is measured."""

from dataclasses import dataclass

from .cores import Cores
from .ours import Transport


@dataclass(frozen=True)
class Setup:
    """What all measurements of a run have in common."""

    cores: Cores
    """Where."""
    seconds: float
    """How long one measurement counts."""
    warm_up_s: float
    """How long the server is loaded before each measurement."""
    transport: Transport = Transport.AUTO
    """The transport of the servers whose name does not say which."""
