"""Polars, lazily, by the streaming and by the in-memory engine: Parquet in place, and Arrow IPC.

It has no store of its own; a sorted, uncompressed IPC file with the symbols as an Enum is the
layout it scans fastest.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pyarrow as pa

from engines import INTERLEAVED, OWN, Data
from queries import Bars, Quantiles, Query

MODES = ("streaming", "in-memory")


class Engine:
    """See `engines.Peer`."""

    def __init__(self, data: Data, threads: int, layout: str | None) -> None:
        self.data = data
        # Its pool is sized at import, so whoever starts the process sets the variable.
        stated = os.environ.get("POLARS_MAX_THREADS")
        if stated != str(threads):
            raise RuntimeError(f"POLARS_MAX_THREADS is {stated}, not {threads}")

    def load(self) -> None:
        """The file, by (symbol, time, row)."""
        ticks = pl.scan_parquet(self.data.interleaved, row_index_name="row")
        symbols = ticks.select(pl.col("symbol").unique().sort()).collect().to_series()
        ticks = ticks.with_columns(pl.col("symbol").cast(pl.Enum(symbols)))
        ticks.sort("symbol", "ts", "row").drop("row").sink_ipc(self._store(), compression="uncompressed")

    def forms(self, query: Query, layout: str) -> dict[str, Callable[[], pa.Table]]:
        """See `engines.Peer`."""
        match query:
            case Bars():
                plan, form = self._bars(query, layout)
                plans = {form: plan}
            case Quantiles():
                plans = {
                    "native": self._quantiles(query, layout),
                    "by counts": self._quantiles_by_counts(query, layout),
                }
            case _:
                raise TypeError(f"no Polars plan for {query}")
        return {
            f"{form}, {mode}": self._collect(plan, mode) for form, plan in plans.items() for mode in MODES
        }

    def _collect(self, plan: Callable[[], pl.LazyFrame], mode: str) -> Callable[[], pa.Table]:
        return lambda: plan().collect(engine=mode).to_arrow()

    def _store(self) -> Path:
        return self.data.store("polars") / "ticks.arrow"

    def _scan(self, layout: str, row: str | None = None) -> pl.LazyFrame:
        if layout == OWN:
            return pl.scan_ipc(self._store())
        path = self.data.interleaved if layout == INTERLEAVED else self.data.sorted
        return pl.scan_parquet(path, row_index_name=row)

    def _bars(self, query: Bars, layout: str) -> tuple[Callable[[], pl.LazyFrame], str]:
        price, size, time = pl.col("price"), pl.col("size"), pl.col("ts").to_physical()
        # `first` and `last` keep the file's order within a group, in both engines.
        numbered = query.needs_order and layout == INTERLEAVED
        if not numbered:
            place, first, last = None, price.first(), price.last()
            form = "row order" if query.needs_order else "any order"
        else:
            within, form = time % query.width_ns, "(ts, row) in 64 bits"
            if query.width_ns * self.data.rows >= 1 << 63:
                within, form = within.cast(pl.Int128), "(ts, row) in 128 bits"
            place = within * self.data.rows + pl.col("row").cast(pl.Int64)
            first, last = price.min_by("place"), price.max_by("place")
        expressions = {
            "open": first,
            "high": price.max(),
            "low": price.min(),
            "close": last,
            "volume": size.sum(),
            "notional": (price * size).sum(),
            "trades": pl.len(),
        }

        def plan() -> pl.LazyFrame:
            ticks = self._scan(layout, "row" if numbered else None)
            if query.size_above is not None:
                ticks = ticks.filter(size > query.size_above)
            if len(query.symbols) == 1:
                ticks = ticks.filter(pl.col("symbol") == query.symbols[0])
            elif query.symbols:
                ticks = ticks.filter(pl.col("symbol").is_in(list(query.symbols)))
            ticks = ticks.with_columns((time // query.width_ns).alias("bar"))
            if place is not None:
                ticks = ticks.with_columns(place.alias("place"))
            grouped = ticks.group_by("symbol", "bar").agg(
                expressions[name].alias(name) for name in query.outputs
            )
            start = (pl.col("bar") * query.width_ns).alias("window_start")
            return grouped.select("symbol", start, *query.outputs)

        return plan, form

    def _quantiles(self, query: Quantiles, layout: str) -> Callable[[], pl.LazyFrame]:
        # "equiprobable" is the value at rank ceil(q * n).
        picks = [
            pl.col("size").quantile(h / 100, "equiprobable").cast(pl.Int64).alias(name)
            for name, h in zip(query.outputs, query.hundredths)
        ]
        return lambda: self._scan(layout).group_by("symbol").agg(picks)

    def _quantiles_by_counts(self, query: Quantiles, layout: str) -> Callable[[], pl.LazyFrame]:
        n = pl.col("n").cast(pl.Int64)
        picks = [
            pl.col("size").filter(100 * n.cum_sum() >= h * n.sum()).first().alias(name)
            for name, h in zip(query.outputs, query.hundredths)
        ]

        def plan() -> pl.LazyFrame:
            counts = self._scan(layout).group_by("symbol", "size").agg(pl.len().alias("n"))
            return counts.sort("symbol", "size").group_by("symbol").agg(picks)

        return plan

    def vwap(self) -> Callable[[], pa.Table]:
        """See `engines.Peer`."""
        price, size = pl.col("price") / 10000.0, pl.col("size").cast(pl.Float64)

        def plan() -> pl.LazyFrame:
            ticks = self._scan(INTERLEAVED)
            return ticks.group_by("symbol").agg(((price * size).sum() / size.sum()).alias("vwap"))

        return self._collect(plan, "streaming")
