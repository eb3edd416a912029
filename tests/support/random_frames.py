"""Random frames from a seed: calls, broken calls, frames of every kind in any order, and invalid bytes.

    python tests/support/random_frames.py --target HOST:PORT [--pid PID] [--seconds 3600] [--seed 1]

sends them for a while beside well-behaved clients, and prints what became of the server. The server must have a
`doubler`: see tests/conftest.py.
"""

import argparse
import random
import struct
import time
from collections.abc import Callable
from pathlib import Path

from neighbours import Neighbours, request
from raw_http2 import INFER, LIVE, PREFACE, RawConnection, block, call_headers, frame, message, unindexed

MOST_FRAMES = 200
"""Frames on one connection."""
GOOD = message(request(7).SerializeToString())
PATHS = [INFER, LIVE, "/inference.GRPCInferenceService/ModelStreamInfer", "/grpc.health.v1.Health/Watch", "/none"]


class Frames:
    """The frames of one connection."""

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)
        self._stream = 1
        self._kinds: list[tuple[Callable[[], bytes], int]] = [
            (self._call, 20),
            (self._part_of_a_call, 20),
            (self._any_headers, 10),
            (self._any_frame, 20),
            (self._reset, 10),
            (self._settings, 4),
            (self._window, 10),
            (self._ping, 2),
            (self._changed_call, 6),
            (self._noise, 1),
        ]

    def settings(self) -> dict[int, int]:
        """Returns settings for the preface."""
        return {4: self._random.choice([0, 1, 65_535, 1 << 20, (1 << 31) - 1])}

    def parts(self) -> list[bytes]:
        """Returns what to send, in parts."""
        makers, weights = zip(*self._kinds, strict=True)
        count = self._random.randint(1, MOST_FRAMES)
        return [maker() for maker in self._random.choices(makers, weights, k=count)]

    def _any_stream(self) -> int:
        """Returns the number of a stream that was opened, will be, or cannot be."""
        chance = self._random.random()
        if chance < 0.7:
            return max(1, self._stream - 2 * self._random.randint(0, 8))
        return self._random.choice([0, 2, self._stream + 2, self._random.getrandbits(31)])

    def _next_stream(self) -> int:
        self._stream += 2
        return self._stream - 2

    def _headers(self) -> bytes:
        path = self._random.choice(PATHS)
        extra = [("grpc-timeout", f"{self._random.randint(0, 10**6)}{self._random.choice('HMSmunx')}")]
        return block(call_headers(path, extra if self._random.random() < 0.3 else []))

    def _body(self) -> bytes:
        chance = self._random.random()
        if chance < 0.5:
            return GOOD
        if chance < 0.7:
            return GOOD[: self._random.randint(0, len(GOOD))]
        declared = self._random.getrandbits(self._random.randint(1, 32))
        return message(
            self._random.randbytes(self._random.randint(0, 200)), flag=self._random.randint(0, 3), declared=declared
        )

    def _call(self) -> bytes:
        stream = self._next_stream()
        return frame(1, 4, stream, self._headers()) + frame(0, 1, stream, self._body())

    def _part_of_a_call(self) -> bytes:
        """Returns headers that may go on, or the next piece of a message."""
        if self._random.random() < 0.5:
            return frame(1, self._random.choice([0, 1, 4, 5]), self._next_stream(), self._headers())
        kind = self._random.choice([0, 0, 0, 9])
        content = self._body() if kind == 0 else unindexed(b"x", self._random.randbytes(20))
        return frame(kind, self._random.choice([0, 1, 4, 8]), self._any_stream(), content)

    def _any_headers(self) -> bytes:
        """Returns headers of random bytes, or with random names."""
        content = self._random.randbytes(self._random.randint(0, 300))
        if self._random.random() < 0.5:
            content = self._headers() + unindexed(content[:30], content[30:100], kept=self._random.random() < 0.5)
        return frame(1, self._random.choice([4, 5, 4 | 8, 4 | 32]), self._next_stream(), content)

    def _any_frame(self) -> bytes:
        kind = self._random.choice([*range(11), self._random.getrandbits(8)])
        content = self._random.randbytes(self._random.choice([0, 1, 4, 5, 6, 8, 9, 17, self._random.randint(0, 2000)]))
        return frame(kind, self._random.getrandbits(8), self._any_stream(), content)

    def _reset(self) -> bytes:
        return frame(3, 0, self._any_stream(), struct.pack(">I", self._random.randint(0, 14)))

    def _settings(self) -> bytes:
        pairs = [(self._random.randint(0, 10), self._random.getrandbits(self._random.randint(1, 32))) for _ in range(3)]
        return frame(4, self._random.choice([0, 0, 0, 1]), 0, b"".join(struct.pack(">HI", *pair) for pair in pairs))

    def _window(self) -> bytes:
        step = self._random.getrandbits(self._random.choice([1, 8, 16, 31, 32]))
        return frame(8, 0, self._random.choice([0, self._any_stream()]), struct.pack(">I", step))

    def _ping(self) -> bytes:
        return frame(6, self._random.choice([0, 1]), 0, self._random.randbytes(8))

    def _changed_call(self) -> bytes:
        """Returns a call of which some bytes are others."""
        sent = bytearray(self._call())
        for _ in range(self._random.randint(1, 4)):
            sent[self._random.randrange(len(sent))] = self._random.getrandbits(8)
        return bytes(sent)

    def _noise(self) -> bytes:
        return self._random.randbytes(self._random.randint(1, 100))


def send(target: str, seed: int, number: int) -> int:
    """Opens the connection of that number, sends its frames until the server ends it, and returns how many went."""
    frames = Frames(f"{seed}-{number}")
    sent = 0
    with RawConnection(target, frames.settings(), greets=number % 50 != 0) as connection:
        if number % 50 == 0:
            # Some do not even greet as they should.
            connection.send(PREFACE[: number // 50 % len(PREFACE)])
        for part in frames.parts():
            if not connection.send(part):
                break
            sent += 1
    return sent


def _resident_mib(pid: int | None) -> float:
    if pid is None:
        return 0
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description="sends random frames to a server")
    parser.add_argument("--target", required=True, help="host:port of its gRPC port")
    parser.add_argument("--pid", type=int, help="its process, whose memory is printed")
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    start_s = said_s = time.monotonic()
    sent = number = 0
    print(f"seed {args.seed}; {_resident_mib(args.pid):.0f} MiB at the start", flush=True)
    with Neighbours(args.target) as neighbours:

        def say() -> None:
            others = f"others: {neighbours.answered:,} calls answered, lost {dict(neighbours.lost)}"
            at = f"{time.monotonic() - start_s:,.0f} s: {sent:,} frames on {number:,} connections"
            print(f"{at}; {_resident_mib(args.pid):.0f} MiB; {others}", flush=True)

        while time.monotonic() - start_s < args.seconds:
            number += 1
            sent += send(args.target, args.seed, number)
            if time.monotonic() - said_s > 60:
                said_s = time.monotonic()
                say()
        say()


if __name__ == "__main__":
    main()
