"""Tables as Markdown, which also reads well on a terminal, and everything as JSON."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from streams.contest import EVENT_RATE, WARM, Contestant, Found
from streams.engines import ENGINES, ISOTICK
from streams.judge import Verdict


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, padded."""
    lines = [header, ["-" * max(3, len(name)) for name in header], *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
        for line in lines
    )


def machine() -> str:
    """Processor, cores, system."""
    model = platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return f"{model}, {os.cpu_count()} cores, {platform.system()} {platform.release()}"


def _answers(verdicts: Sequence[Verdict]) -> str:
    worst = max(verdicts, key=lambda verdict: verdict.missing + verdict.wrong)
    if worst.right:
        return f"all {worst.windows:,} right"
    share = (worst.missing + worst.wrong) / max(1, worst.windows)
    return f"**{worst.wrong:,} wrong, {worst.missing:,} missing** of {worst.windows:,} ({share:.1%})"


def _flat(found: Found) -> list[str]:
    own = next((one.rate() for one in found.contestants if one.name == ISOTICK), None)
    rows = []
    measured = [one for one in found.contestants if one.flat]
    for one in sorted(measured, key=lambda one: -(one.rate() or 0)):
        rates = [verdict.ticks_per_s for verdict in one.flat]
        cpus = sorted(verdict.cpu_s for verdict in one.flat if verdict.cpu_s is not None)
        hashes = {verdict.hash for verdict in one.flat}
        rows.append(
            [
                f"**{one.name}**" if one.name == ISOTICK else one.name,
                f"{one.flat[0].ticks:,}",
                f"{one.rate():,.0f}",
                f"{min(rates):,.0f}..{max(rates):,.0f}",
                f"{own / one.rate():.1f}" if own else "-",
                f"{cpus[len(cpus) // 2]:.1f}" if cpus else "-",
                _answers(one.flat),
                " ".join(sorted(value[:8] for value in hashes)),
            ]
        )
    header = ("engine", "ticks timed", "ticks/s", "spread", "isotick is x", "CPU s", "answers", "hash")
    return ["### Flat out", table(header, rows)] if rows else []


def _paced(found: Found, rate: int) -> list[str]:
    rows = []
    for one in found.contestants:
        verdict = one.paced.get(rate)
        if not isinstance(verdict, Verdict) or verdict.latency_ms is None:
            continue
        figures = [f"{verdict.latency_ms[name]:.2f}" for name in ("p50", "p90", "p99", "max")]
        late = f"{verdict.sent_late_ms[0]:.2f} / {verdict.sent_late_ms[1]:.1f}"
        rows.append(
            [
                f"**{one.name}**" if one.name == ISOTICK else one.name,
                *figures,
                f"{verdict.latency_windows:,} in {verdict.closings}",
                late,
                f"{verdict.cpu_s:.1f}" if verdict.cpu_s is not None else "-",
                _answers([verdict]),
                f"{verdict.after_end:,}",
                verdict.hash[:8],
            ]
        )
    rows.sort(key=lambda row: float(row[1]))
    header = ("engine", "p50 ms", "p90 ms", "p99 ms", "max ms", "windows timed, closings")
    header += ("sent late ms, p50 / max", "CPU s", "answers", "only after the end", "hash")
    parts = [f"### At {rate:,} ticks/s"] + ([table(header, rows)] if rows else [])
    texts = [(one.name, one.paced[rate]) for one in found.contestants if isinstance(one.paced.get(rate), str)]
    return parts + [f"{name}: {text}." for name, text in texts]


def _losses(found: Found) -> list[str]:
    """Where Isotick loses, and to whom."""
    own = next((one for one in found.contestants if one.name == ISOTICK), None)
    if own is None:
        return []
    lines = []
    if own.out is not None:
        lines.append(f"isotick was not measured: {own.out}")
    for one in found.contestants:
        if one is own:
            continue
        if one.flat and own.flat and one.rate() > own.rate():
            lines.append(f"**LOSES** flat out to {one.name}: {own.rate():,.0f} against {one.rate():,.0f} ticks/s")
        for rate, verdict in one.paced.items():
            mine = own.paced.get(rate)
            if not (isinstance(verdict, Verdict) and isinstance(mine, Verdict)):
                continue
            for name in ("p50", "p99"):
                if verdict.latency_ms and mine.latency_ms and verdict.latency_ms[name] < mine.latency_ms[name]:
                    lines.append(
                        f"**LOSES** at {rate:,}/s to {one.name}: {name} {mine.latency_ms[name]:.2f} ms "
                        f"against {verdict.latency_ms[name]:.2f} ms"
                    )
    return ["### Where isotick loses", "\n".join(f"- {line}" for line in lines or ["nowhere in this run"])]


def _forms(contestants: Sequence[Contestant]) -> str:
    rows = [[one.name, one.version, ENGINES[one.name].form] for one in contestants]
    return table(("engine", "version", "form"), rows)


def markdown(found: Found) -> str:
    """The whole report."""
    args = found.args
    pinned = f"everything on cores {found.cores}" if found.cores else "not pinned"
    loads = [" ".join(f"{value:.1f}" for value in load) for load in (found.load_before, found.load_after)]
    parts = [
        "## Ticks as they come: 1-second OHLCV, notional and count per symbol",
        f"{found.date}; {machine()}; {pinned}; load averages before {loads[0]}, after {loads[1]}.",
        args.note,
        f"1,000 Zipf symbols, one tick in a hundred out of order by up to 50 ms, seed {args.seed}. Flat out: "
        f"event time at {EVENT_RATE:,} ticks/s, median of {args.repeat}; the peers' first {WARM:.0%} of ticks "
        "are sent before the clock starts. Paced: from when the tick that closes a window was due until the "
        f"window's row was received; ticks sent every {args.step_us} µs; {args.seconds} s, the first "
        f"{args.warm_seconds} not timed.",
        _forms(found.contestants),
        *(_flat(found)),
    ]
    for rate in args.rates:
        parts += _paced(found, rate)
    out = [f"{one.name} is left out: {one.out}." for one in found.contestants if one.out is not None]
    parts += _losses(found) + out
    return "\n\n".join(part for part in parts if part) + "\n"


def as_json(found: Found) -> dict[str, Any]:
    """Every figure."""
    return {
        "date": found.date,
        "machine": machine(),
        "command": sys.argv,
        "cores": found.cores,
        "load_before": found.load_before,
        "load_after": found.load_after,
        "note": found.args.note,
        "engines": [
            {
                "engine": one.name,
                "version": one.version,
                "form": ENGINES[one.name].form,
                "out": one.out,
                "flat_out": [asdict(verdict) for verdict in one.flat],
                "paced": {
                    str(rate): verdict if isinstance(verdict, str) else asdict(verdict)
                    for rate, verdict in one.paced.items()
                },
            }
            for one in found.contestants
        ],
    }
