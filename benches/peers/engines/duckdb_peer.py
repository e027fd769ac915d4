"""DuckDB: Parquet in place, and its own database with the symbols as an ENUM."""

from __future__ import annotations

from collections.abc import Callable

import duckdb
import pyarrow as pa

from engines import INTERLEAVED, OWN, SORTED, Data
from queries import Quantiles, Query, sql


class Engine:
    """See `engines.Peer`."""

    def __init__(self, data: Data, threads: int, layout: str | None) -> None:
        self.data = data
        self.path = data.store("duckdb") / "ticks.duckdb"
        stored = layout in (OWN, None)
        self.connection = duckdb.connect(str(self.path) if stored else ":memory:", read_only=layout == OWN)
        self.connection.execute(f"set threads = {threads}")
        # Results are compared as sets of rows, so the order of rows may be given up.
        self.connection.execute("set preserve_insertion_order = false")

    def load(self) -> None:
        """A table sorted by (symbol, time, row); an ENUM groups faster than text."""
        run = self.connection.execute
        source = f"read_parquet('{self.data.interleaved}', file_row_number = true)"
        run("set preserve_insertion_order = true")
        run(f"create type symbol as enum (select distinct symbol from {source} order by symbol)")
        run(
            f"create table ticks as select ts, symbol::symbol as symbol, price, size, side from {source} "
            f"order by symbol, ts, file_row_number"
        )
        run("checkpoint")

    def _dialect(self, layout: str, numbered: bool) -> sql.Dialect:
        option = ", file_row_number = true" if numbered else ""
        relation = {
            INTERLEAVED: f"read_parquet('{self.data.interleaved}'{option})",
            SORTED: f"read_parquet('{self.data.sorted}'{option})",
            OWN: "ticks",
        }[layout]
        return sql.Dialect(
            relation=relation,
            time="epoch_ns(ts)",
            row="rowid" if layout == OWN else "file_row_number",
            ordered=layout != INTERLEAVED,
            first="arg_min({value}, {by})",
            last="arg_max({value}, {by})",
            divide="{a} // {b}",
        )

    def forms(self, query: Query, layout: str) -> dict[str, Callable[[], pa.Table]]:
        """See `engines.Peer`."""
        dialect = self._dialect(layout, numbered=getattr(query, "needs_order", False))
        native = None
        if isinstance(query, Quantiles):
            levels = ", ".join(str(h / 100) for h in query.hundredths)
            names = ", ".join(f"q[{i}] as {name}" for i, name in enumerate(query.outputs, 1))
            native = (
                f"select symbol, {names} from (select symbol, quantile_disc(size, [{levels}]) as q "
                f"from {dialect.relation} group by symbol)"
            )
        texts = sql.forms(query, dialect, self.data.rows, native)
        return {name: self._fetch(text) for name, text in texts.items()}

    def _fetch(self, text: str) -> Callable[[], pa.Table]:
        return lambda: self.connection.sql(text).to_arrow_table()

    def vwap(self) -> Callable[[], pa.Table]:
        """See `engines.Peer`."""
        return self._fetch(
            f"select symbol, sum((price / 10000.0) * size) / sum(size::double) as vwap "
            f"from read_parquet('{self.data.interleaved}') group by symbol"
        )
