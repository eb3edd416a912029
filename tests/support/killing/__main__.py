"""The command: kills so many times, prints what was served afterwards, and exits with 1 if anything was not whole."""

import argparse
import sys
from collections import Counter
from pathlib import Path

# Run by its path, so that no package has to be installed under the name `tests`.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from killing.kills import SCENARIOS, Kills


def main() -> int:
    parser = argparse.ArgumentParser(prog="make kills", description=__doc__)
    parser.add_argument("--times", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    kills = Kills(args.seed)
    names = list(SCENARIOS)
    problems = []
    for number in range(args.times):
        if problem := kills.kill(names[number % len(names)]):
            problems.append(problem)
            print(f"seed {args.seed}, kill {number}: {problem}", flush=True)
    for name, outcomes in kills.outcomes.items():
        counts = {str(found): count for found, count in Counter(outcomes).items()}
        print(f"{name}: {len(outcomes)} kills, then served (version, factor): {counts}")
    print(f"{args.times} kills, {len(problems)} starts that did not serve a whole version")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
