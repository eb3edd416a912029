"""The results of all calls, as seen by their clients, and the invariants at the end."""

import threading
from collections import Counter
from dataclasses import dataclass, field

WILD = "Classify"
"""The method whose clients leave or have no time, as it comes: how many of their calls it saw is unknown."""


@dataclass
class Ledger:
    """Counts calls. May be used from any thread."""

    sent: Counter[str] = field(default_factory=Counter)
    """Calls by method, counted before they are sent."""
    ended: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Calls by method and outcome: OK, CANCELLED (by the client), UNREAD (a slow reader's), or another status."""
    wrong: list[str] = field(default_factory=list)
    """Wrong answers."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def send(self, method: str, count: int = 1) -> None:
        with self._lock:
            self.sent[method] += count

    def end(self, method: str, outcome: str, count: int = 1) -> None:
        with self._lock:
            self.ended[method, outcome] += count

    def complain(self, problem: str) -> None:
        with self._lock:
            self.wrong.append(problem)

    def totals(self) -> dict[str, int]:
        """Returns how many calls were sent, answered, refused and cancelled."""
        answered = sum(count for (_, outcome), count in self.ended.items() if outcome == "OK")
        cancelled = sum(count for (_, outcome), count in self.ended.items() if outcome in ("CANCELLED", "UNREAD"))
        refused = self.ended.total() - answered - cancelled
        return {"sent": self.sent.total(), "answered": answered, "refused": refused, "cancelled": cancelled}


def disagreements(ledger: Ledger, metrics: Counter[tuple[str, str]]) -> list[str]:
    """Returns where clients and metrics do not agree.

    Args:
        ledger: the clients'.
        metrics: pixelserve_requests_total by method and code.
    """
    found = list(ledger.wrong[:5])
    totals = ledger.totals()
    if totals["sent"] != totals["answered"] + totals["refused"] + totals["cancelled"]:
        found.append(f"clients: {totals}")
    for method, sent in ledger.sent.items():
        ended = sum(count for (name, _), count in ledger.ended.items() if name == method)
        if ended != sent:
            found.append(f"{method}: {sent} sent, {ended} ended")
    expected: Counter[tuple[str, str]] = Counter()
    for (method, outcome), count in ledger.ended.items():
        # A slow reader's call was answered, as far as the server can know before it gives it up.
        expected[method, "OK" if outcome == "UNREAD" else outcome] += count
    found += [
        f"{key}: clients {expected[key]}, metrics {metrics[key]}"
        for key in sorted(expected.keys() | metrics.keys())
        if key[0] != WILD and expected[key] != metrics[key]
    ]
    wild = [sum(count for (name, _), count in counts.items() if name == WILD) for counts in (metrics, expected)]
    if not expected[WILD, "OK"] <= metrics[WILD, "OK"] or wild[0] > wild[1]:
        found.append(f"{WILD}: clients {wild[1]}, of which OK {expected[WILD, 'OK']}; metrics {wild[0]}")
    if internal := {key: count for key, count in metrics.items() if key[1] in ("INTERNAL", "UNKNOWN")}:
        found.append(f"internal errors: {internal}")
    return found
