"""The command: fuzzes for a while, prints failures, and exits with 1 if there were any."""

import argparse
import sys
from pathlib import Path

# Run by its path, so that no package has to be installed under the name `tests`.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from fuzzing.watch import Fuzzing
from fuzzing.wire import TRANSPORTS, fuzz_wire
from fuzzing.worker import work

KINDS = "calls,rest,files,pictures,wire"


def _wire(seed: int, inputs: int, seconds: float) -> bool:
    has_failed = False
    for transport in TRANSPORTS:
        count, failures = fuzz_wire(transport, seed, connections=inputs, seconds=seconds / len(TRANSPORTS))
        print(*failures, f"wire, {transport}: seed {seed}, {count:,} connections, {len(failures)} failures", sep="\n")
        has_failed |= bool(failures)
    return has_failed


def main() -> int:
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=3600, help="for all kinds together")
    parser.add_argument("--inputs", type=int, default=sys.maxsize, help="at most so many of each kind")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kinds", default=KINDS, help=f"of targets, with commas between them: {KINDS}")
    parser.add_argument("--only", default="", help="names of targets, as their folders in tests/data/fuzz")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--first", type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker is not None:
        only = frozenset(filter(None, args.only.split(",")))
        work(args.kinds, only, args.seed, args.first, args.inputs, args.seconds, args.worker)
        return 0
    kinds = args.kinds.split(",")
    has_failed = False
    for kind in kinds:
        seconds = args.seconds / len(kinds)
        if kind == "wire":
            has_failed |= _wire(args.seed, args.inputs, seconds)
            continue
        result = Fuzzing(kind, only=args.only, seed=args.seed, inputs=args.inputs, seconds=seconds).run()
        memory = ", ".join(f"{start:.0f} to {end:.0f} MiB" for start, end in result.memory_mib)
        print(
            f"{kind}: seed {args.seed}, {result.inputs:,} inputs, {len(result.failures)} failures; {memory}", flush=True
        )
        has_failed |= bool(result.failures)
    return int(has_failed)


if __name__ == "__main__":
    sys.exit(main())
