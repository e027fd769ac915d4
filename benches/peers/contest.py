"""Who runs what: every correct form once, then rounds of the fastest ones."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import pyarrow.parquet as pq

import check
import reference
from engines import FLOOR, INTERLEAVED, ISOTICK, LAYOUTS, OWN, PEERS, SORTED, STATES, Data
from engines.isotick import Definition, Isotick
from measure import Failed, Runner, Usage, drop_cache
from queries import Query

#: The same interleaved file for everyone, and everyone at its best layout.
IN_PLACE, BEST = "in place", "best layout"
#: Isotick alone, from states that were kept before: no scan of ticks, and never compared with one.
STORED_STATES = "from stored states"
MODES = {IN_PLACE: (INTERLEAVED,), BEST: (SORTED, OWN), STORED_STATES: (STATES,)}
#: Peers slower than the fastest one by this factor take part in two rounds only.
SLOW = 5.0
SLOW_ROUNDS = 2
COLD_ROUNDS = 3
#: An engine's forms within this factor of its fastest in the trial are all measured: one call
#: under noise does not choose between them.
NEAR = 1.3


@dataclass(frozen=True)
class Sample:
    """One run of one contestant."""

    cold: bool
    #: The query alone, its result materialised: what ratios are made of.
    query_s: float
    #: The whole process, start to end.
    process_s: float
    cpu_s: float
    peak_bytes: int
    read_bytes: int
    #: Isotick's reading and reducing, without the rows' finish.
    own_s: float | None = None
    hash: str | None = None


@dataclass(frozen=True)
class Answer:
    """An answer on disk, until all answers to its query are compared."""

    path: Path
    digests: dict[str, str]


@dataclass
class Contestant:
    """One engine's way to answer one query over one layout."""

    query: Query
    mode: str
    engine: str
    layout: str
    form: str
    trial_s: float | None = None
    #: Why it is not in the comparison: it failed, or its answer is wrong.
    out: str | None = None
    answer: Answer | None = None
    samples: list[Sample] = field(default_factory=list)

    @property
    def slot(self) -> str:
        """Whose fastest way it may be; the floor is shown for each layout."""
        return f"{self.engine} {self.layout}" if self.engine == FLOOR else self.engine

    @property
    def label(self) -> str:
        """For progress lines."""
        return f"{self.query.name} {self.mode}: {self.engine}, {self.layout}, {self.form}"

    def of(self, cold: bool) -> list[Sample]:
        """The cold or the warm runs."""
        return [sample for sample in self.samples if sample.cold == cold]

    def median(self, what: str, cold: bool = False) -> float | None:
        """The median of one figure over the runs, if there were any."""
        values = [getattr(sample, what) for sample in self.of(cold)]
        values = [value for value in values if value is not None]
        return median(values) if values else None

    def peak_bytes(self) -> int | None:
        """The greatest peak over the runs that call the query once."""
        runs = self.of(cold=True) or self.of(cold=False)
        return max((sample.peak_bytes for sample in runs), default=None)


class Contest:
    """All contestants of the chosen queries over one data set."""

    def __init__(self, data: Data, runner: Runner, isotick: Isotick, probe: Path, answers: Path) -> None:
        self.data = data
        self.runner = runner
        self.isotick = isotick
        self.probe = probe
        self.answers = answers
        self.definitions: dict[str, Definition] = {}
        self.contestants: list[Contestant] = []
        #: Peak bytes of a peer's process with the library loaded, connected, asked nothing.
        self.idle_bytes: dict[str, int] = {}
        #: Queries that the binary cannot answer, and its complaint.
        self.skipped: dict[str, str] = {}
        #: What the checks found, in words.
        self.findings: list[str] = []
        answers.mkdir(parents=True, exist_ok=True)

    def base(self) -> dict[str, Any]:
        """What every worker is told."""
        return {
            "rows": self.data.rows,
            "interleaved": str(self.data.interleaved),
            "sorted": str(self.data.sorted),
            "stores": str(self.data.stores),
        }

    def enter(self, queries: Iterable[Query], engines: Iterable[str], modes: Iterable[str]) -> None:
        """Makes the contestants, not yet with their forms: every engine over every layout."""
        engines = list(engines)
        for query in queries:
            if ISOTICK in engines:
                understood = self.isotick.understood(query, self.probe)
                if isinstance(understood, str):
                    self.skipped[query.name] = understood
                else:
                    self.definitions[query.name] = understood
            for mode in modes:
                for engine in engines:
                    if engine == ISOTICK and query.name in self.skipped:
                        continue
                    for layout in MODES[mode]:
                        if layout in LAYOUTS[engine]:
                            self.contestants.append(Contestant(query, mode, engine, layout, ""))

    def roll_up(self) -> None:
        """Keeps the states of every query whose view has some; the others are not asked of states."""
        for one in [one for one in self.contestants if one.layout == STATES]:
            definition = self.definitions[one.query.name]
            try:
                usage = self.runner.run(self.isotick.roll_up(one.query, definition, self.data))
                rollups = usage.json_line(usage.stdout)["rollups"]
            except Failed as error:
                self.findings.append(f"{one.query.name}: no states are kept: {error}")
                rollups = []
            if not any(made["kept"]["states"] for made in rollups):
                self.contestants.remove(one)
            for made in rollups:
                kept = made["kept"]
                self.findings.append(
                    f"{one.query.name}: {kept['states']} states of {kept['ticks']} ticks are kept, "
                    f"{kept['bytes'] / 1e6:.1f} MB beside {kept['bytes_of_ticks'] / 1e6:.1f} MB of ticks; "
                    f"made in {made['seconds']:.2f} s"
                )

    def _view_form(self, query: Query) -> str:
        missing = [name for name in query.outputs if name not in self.definitions[query.name].outputs]
        return f"view, vwap for {', '.join(missing)}" if missing else "view"

    def run_once(self, one: Contestant, cold: bool, calls: int, answer: Path | None = None) -> Sample:
        """The better of `calls` calls of one process; with an answer, one that Isotick writes."""
        if cold:
            drop_cache(self.data.files(one.engine, one.layout))
        if one.engine == ISOTICK and answer is not None:
            return self._answer_of_isotick(one, answer)
        if one.engine == ISOTICK:
            return self._ask_isotick(one, cold, calls)
        spec = {"action": "query", "engine": one.engine, "layout": one.layout, "query": one.query.name}
        spec |= {"form": one.form, "calls": calls}
        usage, outcome = self.runner.worker({**self.base(), **spec})
        best = min(outcome["calls"], key=lambda call: call["seconds"])
        return _sample(cold, best["seconds"], usage, best["cpu_s"])

    def _answer_of_isotick(self, one: Contestant, answer: Path) -> Sample:
        definition, threads = self.definitions[one.query.name], self.runner.threads
        argv = self.isotick.scan(one.query, definition, self.data, one.layout, threads, answer)
        usage = self.runner.run(argv)
        stats = usage.json_line(usage.stderr)
        return _sample(False, stats["query_seconds"], usage, usage.cpu_s, stats["seconds"], stats["hash"])

    def _ask_isotick(self, one: Contestant, cold: bool, calls: int) -> Sample:
        definition, threads = self.definitions[one.query.name], self.runner.threads
        path = self.answers / "isotick.json"
        argv = self.isotick.ask(one.query, definition, self.data, one.layout, threads, calls, path)
        usage = self.runner.run(argv)
        report = json.loads(path.read_text())
        view = report["views"][0]
        if one.layout == STATES and not view["states_read"]:
            raise Failed("it read ticks, not states")
        best = min(report["calls"], key=lambda call: call["seconds"])
        own_s, hash_ = best["reading_seconds"], view["hash"]
        return _sample(cold, best["seconds"], usage, best["cpu_seconds"], own_s, hash_)

    def idle(self, peers: Iterable[str]) -> None:
        """What a peer's process holds before it is asked anything."""
        for engine in peers:
            try:
                usage, _ = self.runner.worker(
                    {**self.base(), "action": "idle", "engine": engine, "layout": INTERLEAVED}
                )
            except Failed as error:
                self.findings.append(f"{engine} does not start: {error}")
            else:
                self.idle_bytes[engine] = usage.peak_bytes

    def trial(self) -> None:
        """Runs every form once, checks the answers, and leaves one contestant per form."""
        entered, self.contestants = self.contestants, []
        for name in dict.fromkeys(one.query.name for one in entered):
            for number, one in enumerate(entered):
                if one.query.name != name:
                    continue
                prefix = self.answers / str(number)
                forms = (
                    self._try_isotick(one, prefix) if one.engine == ISOTICK else self._try_peer(one, prefix)
                )
                self.contestants += forms
                for form in forms:
                    progress(f"{form.label}: {form.out or f'{form.trial_s:.3f} s'}")
            self._judge(name)
            for path in self.answers.glob("*.parquet"):
                path.unlink()

    def _try_isotick(self, one: Contestant, prefix: Path) -> list[Contestant]:
        path = prefix.with_suffix(".parquet")
        tried = replace(one, form=self._view_form(one.query))
        try:
            self.run_once(tried, cold=False, calls=1, answer=path)
            definition = self.definitions[one.query.name]
            named = pq.read_table(path).rename_columns(definition.columns())
            check.write_answer(check.canonical(named, one.query, definition.outputs), path)
            tried.trial_s = self.run_once(tried, cold=False, calls=2).query_s
            tried.answer = Answer(path, check.digests(pq.read_table(path)))
        except (Failed, ValueError, KeyError) as error:
            tried.out = str(error)
        return [tried]

    def _try_peer(self, one: Contestant, prefix: Path) -> list[Contestant]:
        spec = {"action": "trial", "engine": one.engine, "layout": one.layout, "query": one.query.name}
        spec |= {"calls": 2, "answers": str(prefix)}
        try:
            outcome = self.runner.worker({**self.base(), **spec})[1]["forms"]
        except Failed as error:
            return [replace(one, out=str(error))]
        forms = []
        for name, found in outcome.items():
            form = replace(one, form=name, out=found.get("error"), samples=[])
            if form.out is None:
                form.trial_s = min(call["seconds"] for call in found["calls"])
                if found["answer"] is not None:
                    path = Path(found["answer"])
                    form.answer = Answer(path, check.digests(pq.read_table(path)))
            forms.append(form)
        return forms

    def _judge(self, name: str) -> None:
        """Compares all answers to one query with the reference, and so with each other."""
        answered = [one for one in self.contestants if one.query.name == name and one.answer is not None]
        if not answered:
            return
        expected = reference.answer(answered[0].query, self.data.sorted)
        digests = check.digests(expected)
        for one in answered:
            wrong = None
            if any(
                digests[column] != one.answer.digests[column]
                for column in digests
                if column in one.answer.digests
            ):
                wrong = check.difference(pq.read_table(one.answer.path), expected, one.query)
            elif "vwap" in one.answer.digests:
                wrong = check.wrong_quotients(pq.read_table(one.answer.path), expected)
            if wrong is not None:
                one.out = f"WRONG: {wrong}"
                self.findings.append(f"{one.label}: {one.out}")
        right = [one for one in answered if one.out is None]
        engines = ", ".join(dict.fromkeys(one.engine for one in right))
        self.findings.append(
            f"{name}: {len(right)} of {len(answered)} answers equal to the reference in all "
            f"{expected.num_rows} rows ({engines})"
        )

    def close(self, query: str, mode: str) -> list[Contestant]:
        """What is measured: of each engine the correct ways that came near its fastest at first."""
        correct = [
            one
            for one in self.contestants
            if (one.query.name, one.mode) == (query, mode) and one.out is None and one.trial_s is not None
        ]
        best: dict[str, float] = {}
        for one in correct:
            best[one.slot] = min(one.trial_s, best.get(one.slot, one.trial_s))
        return [one for one in correct if one.trial_s <= NEAR * best[one.slot]]

    def finalists(self, query: str, mode: str) -> list[Contestant]:
        """Each engine's fastest correct way, by the median where it was measured."""
        found: dict[str, Contestant] = {}
        for one in self.close(query, mode):
            time = one.median("query_s")
            if time is None:
                continue
            if one.slot not in found or time < found[one.slot].median("query_s"):
                found[one.slot] = one
        return list(found.values())

    def rounds(self, repeat: int, cold: bool) -> None:
        """Rounds in which everyone that came near runs cold, then warm, so that noise falls on all."""
        if repeat == 0:
            return
        pairs = list(dict.fromkeys((one.query.name, one.mode) for one in self.contestants))
        for query, mode in pairs:
            running = self.close(query, mode)
            fastest = min((one.trial_s for one in running if one.engine in PEERS), default=0.0)
            for number in range(repeat):
                # Each round starts with another engine: none always runs after the same one.
                turn = number % max(1, len(running))
                for one in running[turn:] + running[:turn]:
                    slow = one.engine in PEERS and one.trial_s > SLOW * fastest
                    if slow and number >= SLOW_ROUNDS:
                        continue
                    try:
                        if cold and number < COLD_ROUNDS:
                            one.samples.append(self.run_once(one, cold=True, calls=1))
                        one.samples.append(self.run_once(one, cold=False, calls=2))
                    except Failed as error:
                        one.out = str(error)
            for one in running:
                time = one.median("query_s")
                progress(f"{one.label}: {one.out or f'{time:.3f} s, median of {len(one.of(False))}'}")
        self._check_hashes()

    def _check_hashes(self) -> None:
        """Isotick prints one hash per query, whatever the layout, the run or the cache."""
        for name in self.definitions:
            own = [one for one in self.contestants if one.query.name == name and one.engine == ISOTICK]
            hashes = {sample.hash for one in own for sample in one.samples}
            if len(hashes) == 1:
                self.findings.append(f"{name}: one isotick hash over all layouts and runs, {hashes.pop()}")
            elif hashes:
                self.findings.append(
                    f"{name}: WRONG: {len(hashes)} isotick hashes: {sorted(map(str, hashes))}"
                )


def _sample(
    cold: bool,
    query_s: float,
    usage: Usage,
    cpu_s: float,
    own_s: float | None = None,
    digest: str | None = None,
) -> Sample:
    return Sample(cold, query_s, usage.wall_s, cpu_s, usage.peak_bytes, usage.read_bytes, own_s, digest)


def progress(text: str) -> None:
    """A line for whoever waits."""
    print(text, file=sys.stderr, flush=True)
