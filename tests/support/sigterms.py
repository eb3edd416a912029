"""SIGTERM in random states: servers that start, load, decode, swap, stream, are overloaded, answer slow readers, or
have no room on their disks.

Each has to end within its grace and two seconds, with the exit code that says what happened, and every call that was
sent before the signal and could be answered in time has to be answered or refused.

    python tests/support/sigterms.py --rounds 200 --seed 1 --transport auto
"""

import argparse
import json
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

from random_servers import GRACE_S, Round
from sigterm_states import STATES

ALLOWED_S = 2.0
"""Seconds that a server may take to end after its grace."""


def play(number: int, seed: int, transport: str) -> Round:
    """Plays one round: brings a server into a state, and ends it."""
    chance = random.Random(f"{seed} {number}")
    state = STATES[number % len(STATES)]
    with tempfile.TemporaryDirectory() as folder:
        server = state(Path(folder), transport, chance)
        try:
            server.end()
        finally:
            server.process.kill()
            server.process.wait()
    server.result.state = state.__name__
    return server.result


def table(rounds: list[Round]) -> str:
    """Returns what became of the rounds, a line for each state."""
    lines = [
        f"{'state':12} {'rounds':>6} {'right':>6} {'worst s':>8} {'answered':>9} {'refused':>8} {'lost':>5}  exit codes"
    ]
    for state in (each.__name__ for each in STATES):
        of = [each for each in rounds if each.state == state]
        if not of:
            continue
        ends = sum((each.ends for each in of), Counter[str]())
        codes = json.dumps({str(code): count for code, count in Counter(each.code for each in of).items()})
        right, worst_s = sum(each.is_right(ALLOWED_S) for each in of), max(each.took_s for each in of)
        refused, lost = ends.total() - ends["OK"], sum(len(each.lost) for each in of)
        figures = f"{len(of):7} {right:6} {worst_s:8.2f} {ends['OK']:9} {refused:8} {lost:5}"
        lines.append(f"{state:12}{figures}  {codes}")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200, help="servers to end (200)")
    parser.add_argument("--seed", type=int, default=1, help="what the rounds are drawn from (1)")
    parser.add_argument("--transport", default="auto", help="what the servers take as --transport (auto)")
    options = parser.parse_args()
    rounds: list[Round] = []
    for number in range(options.rounds):
        rounds.append(play(number, options.seed, options.transport))
        if not rounds[-1].is_right(ALLOWED_S):
            print(f"round {number}, seed {options.seed}: {rounds[-1]}", flush=True)
    print(f"grace {GRACE_S:g} s, transport {options.transport}, seed {options.seed}")
    print(table(rounds))
    return 0 if all(each.is_right(ALLOWED_S) for each in rounds) else 1


if __name__ == "__main__":
    sys.exit(main())
