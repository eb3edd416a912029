"""`pixelserve serve` without a version's request metrics: the baseline for their cost.

The server has no switch for this, so its code is patched in memory. All counting per run or request is removed: the
run's record and its sums. Answered calls are still counted, one addition per call under a lock that is held anyway,
because a drain needs it.

`python -m benchmarks.compare.uncounted serve …` accepts the options of `pixelserve serve`. `--drift-window 0` turns
predictions off as usual.
"""

from unittest.mock import patch

from pixelserve.cli import main
from pixelserve_server.engine.run import Run
from pixelserve_server.observe.statistics import VersionStats


def _nothing(*_: object, **__: object) -> None:
    """Replaces the counting functions."""


if __name__ == "__main__":
    # A missing name raises AttributeError, because that server would still count.
    with patch.object(VersionStats, "on_batch", _nothing), patch.object(Run, "record", _nothing):
        main()
