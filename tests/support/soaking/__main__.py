"""The command: soaks a server, prints the figures, and exits with 1 if anything is wrong."""

import argparse
import sys
from pathlib import Path

# Run by its path, so that no package has to be installed under the name `tests`.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from soaking.soak import soak


def main() -> int:
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=1800)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--transport", default="auto")
    args = parser.parse_args()
    report = soak(args.transport, args.seed, seconds=args.seconds)
    print(", ".join(f"{name} {count:,}" for name, count in report.ledger.totals().items()))
    print(
        "by the metrics: " + ", ".join(f"{method} {code} {n:,}" for (method, code), n in sorted(report.metrics.items()))
    )
    for number, name in enumerate(("first", "second")):
        print(f"{name} half: {report.half(number)}")
    problems = [*report.problems, *report.growth()]
    print(*(f"WRONG: {problem}" for problem in problems), sep="\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
