"""`pixelserve serve` whose requests are in none of a version's figures: what the metrics cost is measured against it.

The server has no switch for that, and needs none, so its code is changed in memory. What is left out is all that is
done once a run, or for each of its requests, to count it: the run's record and what is added up from it. How many calls
were answered is still counted, one addition for a call in a lock that is taken anyway, because a drain needs it.

`python -m benchmarks.compare.uncounted serve …` takes what `pixelserve serve` takes. Predictions are switched off as
always, by `--drift-window 0`.
"""

from unittest.mock import patch

from pixelserve.cli import main
from pixelserve_server.engine.run import Run
from pixelserve_server.observe.statistics import VersionStats


def _nothing(*_: object, **__: object) -> None:
    """Takes the place of what counts."""


if __name__ == "__main__":
    # A name that is gone raises AttributeError: that server would count after all.
    with patch.object(VersionStats, "on_batch", _nothing), patch.object(Run, "record", _nothing):
        main()
