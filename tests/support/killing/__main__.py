"""The command: kills repeatedly, prints the versions served afterwards, and exits with 1 if any was incomplete."""

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

# Run by its path, so that no package has to be installed under the name `tests`.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from object_store import object_store

from killing.kills import SCENARIOS, Kills
from killing.s3 import S3Kills


def main() -> int:
    parser = argparse.ArgumentParser(prog="make kills", description=__doc__)
    parser.add_argument("--times", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--s3", action="store_true", help="kill pulls from an object store only (make kills-s3)")
    args = parser.parse_args()
    kill = _kill_pulls if args.s3 else _kill_all
    return kill(args.times, args.seed)


def _kill_pulls(times: int, seed: int) -> int:
    """Kills pulls from an object store, and looks at what is in the repository afterwards."""
    with (
        tempfile.TemporaryDirectory() as folder,
        tempfile.TemporaryDirectory() as data,
        object_store(Path(data)) as store,
    ):
        kills = S3Kills(store, Path(folder), seed)
        problems = [problem for number in range(times) if (problem := kills.kill(number))]
    for problem in problems:
        print(f"seed {seed}, {problem}")
    for outcome, count in sorted(kills.outcomes.items()):
        print(f"{outcome}: {count}")
    print(f"{times} kills of pulls from S3, {len(problems)} left a version that was not whole")
    return 1 if problems else 0


def _kill_all(times: int, seed: int) -> int:
    kills = Kills(seed)
    names = list(SCENARIOS)
    problems = []
    for number in range(times):
        if problem := kills.kill(names[number % len(names)]):
            problems.append(problem)
            print(f"seed {seed}, kill {number}: {problem}", flush=True)
    for name, outcomes in kills.outcomes.items():
        counts = {str(found): count for found, count in Counter(outcomes).items()}
        print(f"{name}: {len(outcomes)} kills, then served (version, factor): {counts}")
    print(f"{times} kills, {len(problems)} starts that did not serve a whole version")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
