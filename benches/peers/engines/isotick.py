"""Isotick as its users run it: the program, a file of definitions, Parquet or a data folder."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from engines import INTERLEAVED, OWN, STATES, Data
from queries import Bars, Quantiles, Query

STREAM = "ticks"
#: One window that holds every tick.
WHOLE = "36500d"

COLUMNS = {
    "price": 'price = { scale = 4, min = 0, max = "1000000" }',
    "size": "size = { scale = 0, min = 0, max = 1000000 }",
    "side": "side = { scale = 0 }",
}


@dataclass(frozen=True)
class Definition:
    """A view that gives a query's answer, as far as the binary can say it."""

    #: Outputs of the query that it gives as integers.
    outputs: tuple[str, ...]
    #: Whether it gives `vwap`, to be judged by the others' (notional, volume).
    vwap: bool
    aggregates: tuple[str, ...]
    window: str
    where: str | None
    keys: tuple[str, ...]

    def columns(self) -> list[str]:
        """The result's columns in their order, as the query calls them."""
        return ["symbol", "window_start", "window_end", *self.outputs, *(("vwap",) if self.vwap else ())]


def definitions(query: Query) -> list[Definition]:
    """Views for a query, the fullest first; the runner takes the first that the binary knows."""
    match query:
        case Bars():
            # Where VWAP is the question, it answers alone.
            alone = "notional" in query.outputs and "trades" not in query.outputs
            ways = (True, False) if alone else (False,)
            return [_bars(query, notional) for notional in ways]
        case Quantiles():
            levels = ", ".join(str(h / 100) for h in query.hundredths)
            aggregates = (f"quantile(size, {levels})",)
            return [Definition(query.outputs, False, aggregates, WHOLE, None, ())]
    raise TypeError(f"no view for {query}")


def _bars(query: Bars, notional: bool) -> Definition:
    texts = {
        "open": "open = first(price)",
        "high": "high = max(price)",
        "low": "low = min(price)",
        "close": "close = last(price)",
        "volume": "volume = sum(size)",
        "notional": "notional = notional(price, size)",
        "trades": "trades = count()",
    }
    outputs = tuple(name for name in query.outputs if notional or name != "notional")
    aggregates = [texts[name] for name in outputs]
    # VWAP is asked for where the question is VWAP, and where it stands in for the notional.
    vwap = "notional" in query.outputs and not notional
    if vwap:
        aggregates.append("vwap = vwap(price, size)")
    where = None if query.size_above is None else f"size > {query.size_above}"
    return Definition(
        outputs, vwap, tuple(aggregates), f"{query.width_ns // 1_000_000_000}s", where, query.symbols
    )


def definition_text(query: Query | None, definition: Definition | None, columns: tuple[str, ...]) -> str:
    """A file of definitions: the stream with `columns`, and the view."""
    held = ", ".join(COLUMNS[name] for name in columns)
    text = f'[stream.{STREAM}]\ntime = "ts"\nkey = "symbol"\ncolumns = {{ {held} }}\n'
    if query is None or definition is None:
        return text
    where = "" if definition.where is None else f'where = "{definition.where}"\n'
    aggregates = ", ".join(f'"{text}"' for text in definition.aggregates)
    return (
        f"{text}\n[view.{query.name}]\n"
        f'stream = "{STREAM}"\n{where}window = {{ tumbling = "{definition.window}" }}\n'
        f"aggregates = [{aggregates}]\n"
    )


class Isotick:
    """The binary, and its definitions in a folder of their own."""

    def __init__(self, binary: Path, folder: Path) -> None:
        self.binary = binary
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def version(self) -> str:
        """What `--version` says."""
        return self._run([str(self.binary), "--version"]).stdout.strip()

    def _run(self, argv: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(argv, capture_output=True, text=True, check=False)

    def knows(self, command: str) -> bool:
        """Whether the program has a command."""
        return self._run([str(self.binary), command, "--help"]).returncode == 0

    def understood(self, query: Query, probe: Path) -> Definition | str:
        """The first definition that the binary takes, or its complaint about the last."""
        complaint = "no definition"
        for definition in definitions(query):
            config = str(self.write_config(query, definition, INTERLEAVED))
            scan = [str(self.binary), "scan", query.name, "--hash"]
            done = self._run([*scan, "--file", str(probe), "--config", config])
            if done.returncode == 0:
                return definition
            lines = done.stderr.strip().splitlines() or [f"exit {done.returncode}"]
            complaint = lines[0].replace(f"{self.folder}/", "")
        return complaint

    def write_config(self, query: Query, definition: Definition, layout: str) -> Path:
        """The definitions of one scan. In place only the columns it needs are declared."""
        needed = tuple(name for name in COLUMNS if name in query.columns)
        columns = needed if layout == INTERLEAVED else tuple(COLUMNS)
        path = self.folder / f"{query.name}-{layout}.toml"
        path.write_text(definition_text(query, definition, columns))
        return path

    def scan(
        self,
        query: Query,
        definition: Definition,
        data: Data,
        layout: str,
        threads: int,
        answer: Path | None = None,
        to: str | None = None,
    ) -> list[str]:
        """The command line of a scan; its result's hash goes to standard output."""
        argv = [str(self.binary), "scan", *self._over(query, definition, data, layout, threads)]
        argv += ["--stats", "--hash"]
        if to is not None:
            argv += ["--to", to]
        if answer is not None:
            argv += ["--format", "parquet", "-o", str(answer)]
        return argv

    def ask(
        self,
        query: Query,
        definition: Definition,
        data: Data,
        layout: str,
        threads: int,
        calls: int,
        report: Path,
    ) -> list[str]:
        """The command line of a process that asks `calls` times; what each took goes to `report`."""
        argv = [str(self.binary), "bench", "query", *self._over(query, definition, data, layout, threads)]
        return [*argv, "--calls", str(calls), "--json", str(report)]

    def _over(
        self, query: Query, definition: Definition, data: Data, layout: str, threads: int
    ) -> list[str]:
        config = self.write_config(query, definition, layout)
        source = ["--data", str(data.store("isotick"))]
        if layout == INTERLEAVED:
            source = ["--file", str(data.interleaved)]
        if layout == OWN and self.knows("rollup"):
            # The ticks alone, whatever else the folder holds.
            source.append("--no-rollup")
        keys = [argument for key in definition.keys for argument in ("--key", key)]
        engine = ["--engine", "cpu", "--threads", str(threads)]
        return [query.name, *source, "--config", str(config), *engine, *keys]

    def roll_up(self, query: Query, definition: Definition, data: Data) -> list[str]:
        """The command line that keeps a query's states beside the ticks of the data folder."""
        config = self.write_config(query, definition, STATES)
        store = str(data.store("isotick"))
        return [str(self.binary), "rollup", query.name, "--data", store, "--config", str(config), "--json"]

    def load(self, data: Data) -> list[list[str]]:
        """The command lines that bring the ticks into a data folder and compact it."""
        config = self.folder / "load.toml"
        config.write_text(definition_text(None, None, tuple(COLUMNS)))
        store = str(data.store("isotick"))
        binary = str(self.binary)
        load = [binary, "import", "--stream", STREAM, "--data", store, "--config", str(config)]
        lines = [[*load, str(data.interleaved)]]
        if self.knows("compact"):
            lines.append([binary, "compact", "--data", store])
        return lines
