"""VWAP as a quotient of double sums: how often the bits of a result change from run to run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from contest import Contest, progress
from engines import ISOTICK
from engines.isotick import WHOLE, Definition
from measure import Failed
from queries import Query

THREADS = (1, 2, 4, 8)
RUNS = 10

VWAP = Query("vwap", "VWAP per symbol over everything", ("ts", "price", "size"), ("symbol",), ())


@dataclass(frozen=True)
class Wobble:
    """One engine's results over all runs."""

    engine: str
    runs: int
    symbols: int
    #: Symbols whose bits are not the same in all runs.
    differ: int
    #: The same among runs of equal thread counts, by thread count.
    differ_by_threads: dict[int, int]
    #: The greatest distance of two results of a symbol, in units in the last place.
    ulps_max: int
    note: str = ""


def measure(contest: Contest, engines: list[str], scratch: Path) -> list[Wobble]:
    """Ten runs at each thread count, one process per engine and thread count."""
    found = []
    for engine in engines:
        try:
            found.append(_isotick(contest) if engine == ISOTICK else _peer(contest, engine, scratch))
        except Failed as error:
            found.append(Wobble(engine, 0, 0, 0, {}, 0, str(error)))
        progress(f"double sums: {found[-1]}")
    return found


def _peer(contest: Contest, engine: str, scratch: Path) -> Wobble:
    path = scratch / "floats.npy"
    by_threads: dict[int, np.ndarray] = {}
    for threads in THREADS:
        spec = {
            "action": "floats",
            "engine": engine,
            "layout": "interleaved",
            "runs": RUNS,
            "answer": str(path),
        }
        contest.runner.worker({**contest.base(), **spec}, threads)
        by_threads[threads] = np.load(path)
        path.unlink()
    return _wobble(engine, by_threads)


def _wobble(engine: str, by_threads: dict[int, np.ndarray]) -> Wobble:
    """Bits by run and symbol; all values are positive, so bits as integers count the doubles."""
    every = np.concatenate(list(by_threads.values()))

    def differing(bits: np.ndarray) -> int:
        return int(np.count_nonzero((bits != bits[0]).any(axis=0)))

    ulps = int((every.max(axis=0) - every.min(axis=0)).max())
    each = {threads: differing(bits) for threads, bits in by_threads.items()}
    return Wobble(engine, every.shape[0], every.shape[1], differing(every), each, ulps)


def _isotick(contest: Contest) -> Wobble:
    """The same number of runs; one hash covers all symbols, so one other hash counts them all."""
    definition = Definition((), True, ("vwap = vwap(price, size)",), WHOLE, None, ())
    hashes: dict[int, set[str]] = {}
    symbols = 0
    for threads in THREADS:
        hashes[threads] = set()
        for _ in range(RUNS):
            argv = contest.isotick.scan(VWAP, definition, contest.data, "interleaved", threads)
            usage = contest.runner.run(argv, threads)
            stats = usage.json_line(usage.stderr)
            hashes[threads].add(stats["hash"])
            symbols = stats["windows"]
    every = set().union(*hashes.values())
    each = {threads: 0 if len(found) == 1 else symbols for threads, found in hashes.items()}
    note = (
        "exact sums, one rounding; one hash over all symbols and runs" if len(every) == 1 else "hashes differ"
    )
    return Wobble(ISOTICK, RUNS * len(THREADS), symbols, 0 if len(every) == 1 else symbols, each, 0, note)
