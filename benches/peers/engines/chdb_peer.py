"""chDB (ClickHouse in process): Parquet in place, and a MergeTree in the order of the symbols."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
from chdb import session

from engines import INTERLEAVED, OWN, SORTED, Data
from queries import Quantiles, Query, sql


class Engine:
    """See `engines.Peer`."""

    def __init__(self, data: Data, threads: int, layout: str | None) -> None:
        self.data = data
        stored = layout in (OWN, None)
        self.session = session.Session(str(data.store("chdb") / "data")) if stored else session.Session()
        self.session.query(f"SET max_threads = {threads}")

    def load(self) -> None:
        """A table by (symbol, time); `place` keeps the canonical order, as reads are parallel."""
        run = self.session.query
        run("CREATE DATABASE IF NOT EXISTS peers ENGINE = Atomic")
        run(
            "CREATE TABLE peers.ticks (ts DateTime64(9, 'UTC') CODEC(Delta, ZSTD), "
            "symbol LowCardinality(String), price Int64 CODEC(Delta, ZSTD), size Int64 CODEC(ZSTD), "
            "side Int8 CODEC(ZSTD), place Int64 CODEC(Delta, ZSTD)) "
            "ENGINE = MergeTree ORDER BY (symbol, ts, place)"
        )
        run(
            f"INSERT INTO peers.ticks SELECT ts, symbol, price, size, side, _row_number "
            f"FROM file('{self.data.interleaved}', Parquet)"
        )
        run("OPTIMIZE TABLE peers.ticks FINAL")

    def _dialect(self, layout: str) -> sql.Dialect:
        relation = {
            INTERLEAVED: f"file('{self.data.interleaved}', Parquet)",
            SORTED: f"file('{self.data.sorted}', Parquet)",
            OWN: "peers.ticks",
        }[layout]
        return sql.Dialect(
            relation=relation,
            time="toUnixTimestamp64Nano(ts)",
            row="place" if layout == OWN else "assumeNotNull(_row_number)",
            # The stored place is the row in the interleaved file: it only breaks ties.
            ordered=layout == SORTED,
            first="argMin({value}, {by})",
            last="argMax({value}, {by})",
            divide="intDiv({a}, {b})",
            wide="Int128",
        )

    def forms(self, query: Query, layout: str) -> dict[str, Callable[[], pa.Table]]:
        """See `engines.Peer`."""
        dialect = self._dialect(layout)
        native = None
        if isinstance(query, Quantiles):
            # quantileExact takes rank floor(q * n) + 1, so the rank is picked by hand.
            names = ", ".join(
                f"sizes[intDiv({h} * n + 99, 100)] as {name}"
                for name, h in zip(query.outputs, query.hundredths)
            )
            native = (
                f"select symbol, {names} from (select symbol, count() as n, "
                f"arraySort(groupArray(size)) as sizes from {dialect.relation} group by symbol)"
            )
        texts = sql.forms(query, dialect, self.data.rows, native)
        return {name: self._fetch(text) for name, text in texts.items()}

    def _fetch(self, text: str) -> Callable[[], pa.Table]:
        return lambda: self.session.query(text, "ArrowTable")

    def vwap(self) -> Callable[[], pa.Table]:
        """See `engines.Peer`."""
        return self._fetch(
            f"select symbol, sum((price / 10000.0) * size) / sum(toFloat64(size)) as vwap "
            f"from file('{self.data.interleaved}', Parquet) group by symbol"
        )
