"""What a run is worth: right or wrong, how fast, how late."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streams.harness import Run
from streams.load import SECOND_NS, Load, digest


@dataclass(frozen=True)
class Verdict:
    """One run, judged."""

    ticks: int
    seconds: float
    ticks_per_s: float
    windows: int
    missing: int
    #: Windows whose last version is not the right one, and windows that should not be.
    wrong: int
    #: Later versions of a window.
    repeated: int
    after_end: int
    hash: str
    cpu_s: float | None
    latency_ms: dict[str, float] | None
    latency_windows: int
    closings: int
    sent_late_ms: tuple[float, float]
    notes: dict[str, float | str]

    @property
    def right(self) -> bool:
        """Whether every window came and is right."""
        return self.missing == 0 and self.wrong == 0


def judge(run: Run, load: Load, paced: bool, warm_s: float) -> Verdict:
    """Compares the last version of every window as integers; a window's latency is that of its first.

    Windows that close in the first `warm_s` seconds of a paced run are compared, not timed.
    """
    expected = load.answer()
    first: dict[tuple[str, int], int] = {}
    last = {}
    timed_ns: list[int] = []
    # Some engines publish the window of the tick that closes all others when the stream ends.
    beyond = int(load.ts[-1]) // SECOND_NS * SECOND_NS
    for row, received in zip(run.rows, run.received_ns, strict=True):
        key = (row[0], row[1])
        if row[1] == beyond:
            continue
        timed_ns.append(received)
        first.setdefault(key, received)
        last[key] = row
    wrong = sum(last[key] != expected.get(key) for key in last)
    missing = sum(key not in last for key in expected)
    seconds = max(timed_ns, default=0) / 1e9
    latency, timed, closings = None, 0, 0
    if paced:
        keys = [key for key in first if key in expected]
        ends = np.array([start + SECOND_NS for _, start in keys], dtype=np.int64)
        due = load.due_ns(load.closing_rows(ends))
        late = np.array([first[key] for key in keys], dtype=np.int64) - due
        # The last tick stands apart from the pace of the others: what only it closes is not timed.
        chosen = (due >= warm_s * 1e9) & (load.closing_rows(ends) < load.rows - 1)
        timed, closings = int(chosen.sum()), len(set(ends[chosen].tolist()))
        if timed:
            at = np.percentile(late[chosen] / 1e6, [50, 90, 99, 100], method="inverted_cdf").tolist()
            latency = dict(zip(("p50", "p90", "p99", "max"), at, strict=True))
    return Verdict(
        ticks=run.ticks,
        seconds=seconds,
        ticks_per_s=run.ticks / max(seconds, 1e-9),
        windows=len(expected),
        missing=missing,
        wrong=wrong,
        repeated=len(timed_ns) - len(last),
        after_end=run.after_end,
        hash=digest(last),
        cpu_s=run.cpu_s,
        latency_ms=latency,
        latency_windows=timed,
        closings=closings,
        sent_late_ms=(run.sent_late_ns[0] / 1e6, run.sent_late_ns[1] / 1e6),
        notes=run.notes,
    )
