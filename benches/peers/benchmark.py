"""One run from the request to the report."""

from __future__ import annotations

import argparse
import shutil
from datetime import datetime, timezone
from pathlib import Path

import bootstrap
import floats
import generate
import stores
from contest import BEST, IN_PLACE, STORED_STATES, Contest, progress
from engines import FLOOR, INTERLEAVED, ISOTICK, LAYOUTS, OWN, PEERS, Data
from engines.isotick import Isotick
from measure import Failed, Runner
from queries import ALL, RESERVED, Query
from report import RangeMemory, Report

PROBE_ROWS = 1_000
MODES = {"in-place": IN_PLACE, "best": BEST, "states": STORED_STATES}


class BadRequest(Exception):
    """A name that does not exist, with those that do."""


def chosen(wanted: list[str] | None, known: list[str], what: str) -> list[str]:
    """The wanted names in the known order; all of them if none are."""
    for name in wanted or []:
        if name in RESERVED:
            raise BadRequest(f"{name} ({RESERVED[name]}) is not measured yet: there are {', '.join(known)}")
        if name not in known:
            raise BadRequest(f"there is no {what} {name}: there are {', '.join(known)}")
    return [name for name in known if wanted is None or name in wanted]


def generated(rows: int, seed: int) -> Path:
    """The folder of these ticks, generated unless it is there."""
    folder = bootstrap.WORK / "data" / (f"{rows}" if seed == 1 else f"{rows}-seed{seed}")
    if not generate.is_whole(folder, rows, seed):
        progress(f"generating {rows:,} ticks into {folder}")
        shutil.rmtree(folder, ignore_errors=True)
        generate.generate(folder, rows, seed)
    return folder


def run(args: argparse.Namespace) -> Report:
    """Generates, loads, measures, checks."""
    queries: list[Query] = [ALL[name] for name in chosen(args.queries, list(ALL), "query")]
    engines = chosen(args.engines, [ISOTICK, *PEERS, FLOOR], "engine")
    modes = [MODES[name] for name in chosen(args.modes, list(MODES), "mode")]
    if STORED_STATES in modes and ISOTICK not in engines:
        raise BadRequest("states are those of isotick: name it among the --engines")
    binary = args.isotick.resolve() if args.isotick is not None else bootstrap.binary()
    folder = generated(args.rows, args.seed)
    probe = generated(PROBE_ROWS, 1) / "ticks.parquet"
    data = Data(args.rows, folder / "ticks.parquet", folder / "sorted.parquet", folder / "stores")
    runner = Runner(args.threads, bootstrap.WORK / "scratch", args.timeout)
    isotick = Isotick(binary, bootstrap.WORK / "definitions")
    contest = Contest(data, runner, isotick, probe, bootstrap.WORK / "answers")

    loads: dict[str, stores.Loaded | str] = {}
    if BEST in modes or STORED_STATES in modes:
        for engine in engines if BEST in modes else [ISOTICK]:
            if OWN in LAYOUTS[engine]:
                try:
                    loads[engine] = stores.load(engine, data, runner, isotick, contest.base())
                    progress(f"{engine}: loaded in {loads[engine].seconds:.2f} s")
                except Failed as error:
                    loads[engine] = str(error)

    contest.idle(name for name in engines if name in PEERS)
    contest.enter(queries, engines, modes)
    contest.roll_up()
    contest.trial()
    contest.rounds(args.repeat, cold=not args.no_cold)
    peers = [name for name in engines if name != FLOOR]
    wobbles = [] if args.no_floats else floats.measure(contest, peers, bootstrap.WORK / "scratch")
    return Report(
        date=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        rows=args.rows,
        seed=args.seed,
        threads=args.threads,
        cores=runner.cores,
        repeat=args.repeat,
        isotick_version=isotick.version(),
        file_bytes={"interleaved": data.interleaved.stat().st_size, "sorted": data.sorted.stat().st_size},
        contest=contest,
        loads=loads,
        wobbles=wobbles,
        range_memory=range_memory(contest, modes),
    )


def range_memory(contest: Contest, modes: list[str]) -> list[RangeMemory]:
    """Isotick's peak over the first day (of a single day: the first half) and over everything."""
    rows, found = contest.data.rows, []
    if rows > generate.ROWS_PER_DAY:
        to, part = generate.day_start_ns(1), "first day"
    else:
        covered = generate.SESSION_NS * rows // generate.ROWS_PER_DAY
        to, part = generate.day_start_ns(0) + covered // 2, "first half"
    for name, definition in contest.definitions.items():
        for mode, layout in ((IN_PLACE, INTERLEAVED), (BEST, OWN)):
            if mode not in modes:
                continue
            peaks = []
            for end in (str(to), None):
                argv = contest.isotick.scan(
                    ALL[name], definition, contest.data, layout, contest.runner.threads, to=end
                )
                try:
                    peaks.append(contest.runner.run(argv).peak_bytes)
                except Failed as error:
                    contest.findings.append(f"{name}, {layout}, peak memory by range: {error}")
            if len(peaks) == 2:
                found.append(RangeMemory(name, layout, part, *peaks))
    return found
