"""Tables as Markdown, which also reads well on a terminal, and everything as JSON."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from contest import BEST, IN_PLACE, SLOW, SLOW_ROUNDS, STORED_STATES, Contest, Contestant
from engines import FLOOR, ISOTICK, PEERS
from floats import Wobble
from queries import ALL
from stores import Loaded
from targets import Verdict, isotick_of, seconds_of, verdicts


@dataclass(frozen=True)
class RangeMemory:
    """Isotick's peak memory over a part of the range and over all of it."""

    query: str
    layout: str
    part: str
    part_bytes: int
    whole_bytes: int


@dataclass(frozen=True)
class Report:
    """Everything that was found in one run."""

    date: str
    rows: int
    seed: int
    threads: int
    cores: list[int] | None
    repeat: int
    isotick_version: str
    file_bytes: dict[str, int]
    contest: Contest
    loads: dict[str, Loaded | str]
    wobbles: list[Wobble]
    range_memory: list[RangeMemory]


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, padded; columns of numbers stand to the right."""
    if not rows:
        return ""
    widths = [max(len(str(line[i])) for line in (header, *rows)) for i in range(len(header))]
    right = [
        all(str(row[i])[:1].isdigit() or row[i] in ("-", "") for row in rows) for i in range(len(header))
    ]

    def line(cells: Sequence[str]) -> str:
        padded = (c.rjust(w) if r else c.ljust(w) for c, w, r in zip(cells, widths, right))
        return f"| {' | '.join(padded)} |"

    rule = "|".join("-" * (w + 1) + ":" if r else "-" * (w + 2) for w, r in zip(widths, right))
    return "\n".join([line(header), f"|{rule}|", *(line([str(cell) for cell in row]) for row in rows)])


def machine() -> str:
    """Processor, cores, memory, system."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    try:
        memory = f", {os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"
    except (OSError, ValueError):
        memory = ""
    return f"{model}, {os.cpu_count()} cores{memory}, {platform.system()} {platform.release()}"


def versions(report: Report) -> str:
    """Every engine's version."""
    peers = ", ".join(f"{name} {version(name)}" for name in (*PEERS, FLOOR))
    return f"{report.isotick_version}, {peers}, Python {platform.python_version()}"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _megabytes(value: float | None) -> str:
    return "-" if value is None else f"{value / 1e6:.0f}"


def _row(one: Contestant, own: Contestant | None) -> list[str]:
    warm, time = one.of(cold=False), seconds_of(one)
    spread = f"{min(s.query_s for s in warm):.3f}..{max(s.query_s for s in warm):.3f}"
    ratios = ["-", "-"]
    if own is not None:
        ratios = [f"{one.median(what) / max(own.median(what), 1e-9):.2f}" for what in ("query_s", "cpu_s")]
    engine = f"{one.engine} (decodes only)" if one.engine == FLOOR else one.engine
    return [
        f"**{engine}**" if one.engine == ISOTICK else engine,
        one.layout,
        one.form,
        _seconds(time),
        spread,
        ratios[0],
        _seconds(one.median("own_s")),
        _seconds(one.median("process_s")),
        _seconds(one.median("cpu_s")),
        ratios[1],
        _seconds(one.median("query_s", cold=True)),
        _megabytes(one.median("read_bytes", cold=True)),
        _megabytes(one.peak_bytes()),
        str(len(warm)),
    ]


HEADER = (
    "engine",
    "layout",
    "form",
    "query s",
    "spread",
    "x isotick",
    "own s",
    "process s",
    "CPU s",
    "x CPU",
    "cold s",
    "cold MB read",
    "peak MB",
    "runs",
)


def _contests(report: Report) -> list[str]:
    parts = []
    contest = report.contest
    for query in dict.fromkeys(one.query.name for one in contest.contestants):
        parts.append(f"### {query.upper()}: {ALL[query].title}")
        if query in contest.skipped:
            parts.append(f"isotick skipped: {contest.skipped[query]}")
        for mode in (IN_PLACE, BEST, STORED_STATES):
            finalists = contest.finalists(query, mode)
            if not finalists:
                continue
            own = isotick_of(finalists)
            finalists.sort(key=seconds_of)
            parts += [f"{mode}:", table(HEADER, [_row(one, own) for one in finalists])]
        others = [one for one in contest.contestants if one.query.name == query]
        shown = {id(one) for mode in (IN_PLACE, BEST, STORED_STATES) for one in contest.finalists(query, mode)}
        slower = [
            f"{one.engine} {one.layout} ({one.form}) {seconds_of(one) or one.trial_s:.3f} s"
            for one in others
            if one.out is None and one.trial_s is not None and id(one) not in shown
        ]
        if slower:
            parts.append(f"Other forms: {'; '.join(slower)}.")
        parts += [f"Left out: {one.label}: {one.out}" for one in others if one.out is not None]
    return parts


def _targets(found: list[Verdict]) -> list[str]:
    if not found:
        return []
    rows = [[v.query, v.mode, v.what, v.reached, v.asked, v.verdict] for v in found]
    return ["### Targets", table(("query", "mode", "target", "reached", "asked", "verdict"), rows)]


def _loads(report: Report) -> list[str]:
    rows = []
    for engine, loaded in report.loads.items():
        if isinstance(loaded, str):
            rows.append([engine, "-", "-", "-", "-", f"failed: {loaded}"])
            continue
        steps = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in loaded.steps.items())
        figures = [f"{loaded.seconds:.2f}", f"{loaded.cpu_s:.2f}"]
        figures += [_megabytes(loaded.peak_bytes), _megabytes(loaded.store_bytes)]
        rows.append([engine, *figures, steps])
    return [table(("engine", "load s", "CPU s", "peak MB", "store MB", "steps"), rows)]


def _wobbles(wobbles: list[Wobble]) -> list[str]:
    rows = []
    for w in wobbles:
        each = ", ".join(f"{threads}: {differ}" for threads, differ in w.differ_by_threads.items())
        rows.append([w.engine, str(w.runs), str(w.symbols), str(w.differ), each, str(w.ulps_max), w.note])
    header = ("engine", "runs", "symbols", "bits differ", "at equal thread counts", "most ulps apart", "note")
    return [table(header, rows)]


def _legend() -> str:
    return (
        "Query s: warm median of the call in a process that calls twice, the better of the two: of a peer "
        "with the library loaded until the result is materialised, of isotick until all rows are finished "
        "and hashed (own s: its reading and reducing alone). x isotick, x CPU: query s and CPU s over "
        "isotick's; above 1 isotick is faster. Peak: of the process, with one call where cold runs were "
        f"made. Peers slower than the fastest by {SLOW:g} ran {SLOW_ROUNDS} times."
    )


def markdown(report: Report) -> str:
    """The whole report."""
    pinned = f"cores {report.cores}" if report.cores else "cores not pinned"
    sizes = ", ".join(f"{name} {size / 1e6:.0f} MB" for name, size in report.file_bytes.items())
    parts = [
        f"## {report.rows:,} ticks, {report.threads} threads",
        f"{report.date}; {machine()}; {pinned}.",
        f"{versions(report)}.",
        f"Seed {report.seed}; {sizes}.",
        _legend(),
        *_contests(report),
        *_targets(verdicts(report.contest)),
    ]
    if report.loads:
        parts += ["### Loading into an engine's own store", *_loads(report)]
    if report.contest.idle_bytes:
        idle = [[name, _megabytes(size)] for name, size in report.contest.idle_bytes.items()]
        parts += ["### A peer's process before it is asked anything (part of its peak)"]
        parts += [table(("engine", "idle MB"), idle)]
    if report.range_memory:
        rows = [
            [m.query, m.layout, m.part, _megabytes(m.part_bytes), _megabytes(m.whole_bytes)]
            for m in report.range_memory
        ]
        parts += ["### Isotick's peak memory and the range scanned"]
        parts += [table(("query", "layout", "part", "part MB", "whole MB"), rows)]
    if report.wobbles:
        parts += ["### VWAP as a quotient of double sums: symbols whose bits differ between runs"]
        parts += _wobbles(report.wobbles)
    parts += ["### Checks", "\n".join(f"- {finding}" for finding in report.contest.findings)]
    return "\n\n".join(part for part in parts if part) + "\n"


def as_json(report: Report) -> dict[str, Any]:
    """Every sample and verdict."""
    contest = report.contest
    return {
        "date": report.date,
        "machine": machine(),
        "versions": versions(report),
        "command": sys.argv,
        "rows": report.rows,
        "seed": report.seed,
        "threads": report.threads,
        "cores": report.cores,
        "file_bytes": report.file_bytes,
        "contestants": [
            {
                "query": one.query.name,
                "mode": one.mode,
                "engine": one.engine,
                "layout": one.layout,
                "form": one.form,
                "trial_s": one.trial_s,
                "out": one.out,
                "samples": [asdict(sample) for sample in one.samples],
            }
            for one in contest.contestants
        ],
        "idle_bytes": contest.idle_bytes,
        "skipped": contest.skipped,
        "findings": contest.findings,
        "targets": [asdict(verdict) for verdict in verdicts(contest)],
        "loads": {
            name: loaded if isinstance(loaded, str) else asdict(loaded)
            for name, loaded in report.loads.items()
        },
        "floats": [asdict(wobble) for wobble in report.wobbles],
        "range_memory": [asdict(memory) for memory in report.range_memory],
    }
