"""DataFusion: Parquet in place; it has no store of its own."""

from __future__ import annotations

from collections.abc import Callable

import datafusion
import pyarrow as pa

from engines import INTERLEAVED, SORTED, Data
from queries import Query, sql


class Engine:
    """See `engines.Peer`."""

    def __init__(self, data: Data, threads: int, layout: str | None) -> None:
        self.data = data
        config = datafusion.SessionConfig().with_target_partitions(threads)
        config = config.set("datafusion.execution.parquet.pushdown_filters", "true")
        self.context = datafusion.SessionContext(config)
        self.context.register_parquet(INTERLEAVED, str(data.interleaved))
        self.context.register_parquet(SORTED, str(data.sorted))

    def load(self) -> None:
        """Nothing to load."""
        raise NotImplementedError("DataFusion has no store of its own")

    def forms(self, query: Query, layout: str) -> dict[str, Callable[[], pa.Table]]:
        """See `engines.Peer`."""
        dialect = sql.Dialect(
            relation=layout,
            time="cast(ts as bigint)",
            row="cast(file_row_index() as bigint)",
            ordered=layout == SORTED,
            first="first_value({value} order by {by})",
            last="last_value({value} order by {by})",
            wide="decimal(38, 0)",
        )
        # Its own percentile functions do not give the value at a rank.
        texts = sql.forms(query, dialect, self.data.rows, native_quantiles=None)
        return {name: self._fetch(text) for name, text in texts.items()}

    def _fetch(self, text: str) -> Callable[[], pa.Table]:
        return lambda: self.context.sql(text).to_arrow_table()

    def vwap(self) -> Callable[[], pa.Table]:
        """See `engines.Peer`."""
        return self._fetch(
            f"select symbol, sum((cast(price as double) / 10000.0) * cast(size as double)) "
            f"/ sum(cast(size as double)) as vwap from {INTERLEAVED} group by symbol"
        )
