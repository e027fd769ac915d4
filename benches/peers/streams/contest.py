"""Who runs what: rounds flat out, then each pace for those that can keep it."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from statistics import median

import bootstrap
from streams import harness
from streams.engines import ENGINES, ISOTICK, PYTHON
from streams.harness import Failed
from streams.judge import Verdict, judge
from streams.load import Load, make

#: Event time flat out runs at this many ticks a second.
EVENT_RATE = 100_000
#: The part of the ticks that is sent before the clock starts.
WARM = 0.2
MACHINE_LIMIT_S = 600


class BadRequest(Exception):
    """A name that does not exist."""


@dataclass
class Contestant:
    """One engine and what it did."""

    name: str
    python: Path
    version: str
    #: Why it was not measured any further.
    out: str | None = None
    flat: list[Verdict] = field(default_factory=list)
    paced: dict[int, Verdict | str] = field(default_factory=dict)

    def rate(self) -> float | None:
        """The median of ticks a second, flat out."""
        return median(verdict.ticks_per_s for verdict in self.flat) if self.flat else None


@dataclass
class Found:
    """Everything of one run."""

    args: argparse.Namespace
    date: str
    cores: list[int] | None
    load_before: tuple[float, float, float]
    contestants: list[Contestant]
    load_after: tuple[float, float, float] = (0, 0, 0)

    def trusted(self) -> bool:
        """Whether Isotick and the plain loop, where asked, gave the right answer every time."""
        return all(
            one.out is None
            and all(verdict.right for verdict in one.flat)
            and all(isinstance(verdict, Verdict) and verdict.right for verdict in one.paced.values())
            for one in self.contestants
            if one.name in (ISOTICK, PYTHON)
        )


def progress(text: str) -> None:
    """A line for whoever waits."""
    print(text, file=sys.stderr, flush=True)


def enter(name: str, binary: Path | None) -> Contestant:
    """An engine with its environment; one that does not install is out, with the reason."""
    engine = ENGINES[name]
    if name == ISOTICK:
        done = subprocess.run([str(binary), "--version"], capture_output=True, text=True, check=True)
        return Contestant(name, Path(), done.stdout.split()[-1])
    if engine.environment is None:
        return Contestant(name, harness.own_python(), sys.version.split()[0])
    requirements = harness.HERE / "requirements" / f"{engine.environment}.txt"
    try:
        python = bootstrap.interpreter(f"live-{engine.environment}", requirements)
    except subprocess.CalledProcessError as error:
        return Contestant(name, Path(), "-", out=f"does not install: pip ended with {error.returncode}")
    return Contestant(name, python, harness.version(python, engine.package or name))


def run(args: argparse.Namespace) -> Found:
    """Measures everything that was asked."""
    wanted = args.engines or list(ENGINES)
    for name in wanted:
        if name not in ENGINES:
            raise BadRequest(f"there is no engine {name}: there are {', '.join(ENGINES)}")
    if args.ticks < 1_000:
        raise BadRequest("fewer than 1,000 ticks close no window worth timing")
    binary = None
    if ISOTICK in wanted:
        binary = args.isotick.resolve() if args.isotick is not None else bootstrap.binary()
    scratch = bootstrap.WORK / "live"
    scratch.mkdir(parents=True, exist_ok=True)
    available = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    cores = available[: args.threads] if len(available) >= args.threads else None
    if cores is not None:
        # Who sends and who receives share the cores with the engine, as Isotick's do.
        os.sched_setaffinity(0, cores)
    contestants = [enter(name, binary) for name in ENGINES if name in wanted]
    date = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    found = Found(args, date, cores, os.getloadavg(), contestants)

    def measure(one: Contestant, load: Load, rate: int | None) -> Verdict:
        step_ns = args.step_us * 1_000
        if one.name == ISOTICK:
            run = harness.run_isotick(binary, load, rate, step_ns, cores, scratch, MACHINE_LIMIT_S)
        else:
            warm = WARM if ENGINES[one.name].environment is not None else 0.0
            run = harness.run(
                one.name, one.python, load, rate, step_ns, warm, cores, scratch, args.patience
            )
        return judge(run, load, rate is not None, args.warm_seconds)

    loads = {
        share: make(args.seed, int(args.ticks * share), EVENT_RATE)
        for share in {ENGINES[one.name].share for one in contestants}
    }
    for number in range(args.repeat):
        # Each round starts with another engine: none always runs after the same one.
        turn = number % len(contestants)
        for one in contestants[turn:] + contestants[:turn]:
            if one.out is not None:
                continue
            try:
                verdict = measure(one, loads[ENGINES[one.name].share], None)
            except (Failed, OSError, subprocess.SubprocessError) as error:
                one.out = str(error)
                progress(f"{one.name}: {one.out}")
                continue
            one.flat.append(verdict)
            progress(
                f"{one.name}: {verdict.ticks_per_s:,.0f} ticks/s, {verdict.missing} missing, "
                f"{verdict.wrong} wrong of {verdict.windows}"
            )
    for rate in args.rates:
        load = make(args.seed, rate * args.seconds, rate)
        for one in contestants:
            if one.out is not None:
                continue
            reached = one.rate()
            if reached is not None and reached < rate:
                one.paced[rate] = f"cannot: {reached:,.0f} ticks/s flat out"
                continue
            try:
                verdict = one.paced[rate] = measure(one, load, rate)
            except (Failed, OSError, subprocess.SubprocessError) as error:
                one.paced[rate] = f"failed: {error}"
                progress(f"{one.name} at {rate}/s: {error}")
                continue
            progress(
                f"{one.name} at {rate}/s: {verdict.latency_ms}, {verdict.missing} missing, "
                f"{verdict.wrong} wrong of {verdict.windows}"
            )
    found.load_after = os.getloadavg()
    return found
