"""The floor: decode what a query needs, over all threads, and drop it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq

from engines import INTERLEAVED, Data
from queries import Query


class Engine:
    """Not a peer: computes nothing. See `engines.Peer`."""

    def __init__(self, data: Data, threads: int, layout: str | None) -> None:
        self.data = data
        self.threads = threads

    def load(self) -> None:
        """Nothing to load."""
        raise NotImplementedError("the floor has no store")

    def forms(self, query: Query, layout: str) -> dict[str, Callable[[], None]]:
        """One form: row groups shared out over the threads, symbols kept as codes."""
        path = self.data.interleaved if layout == INTERLEAVED else self.data.sorted
        columns = ["symbol", *query.columns]
        groups = pq.ParquetFile(path).num_row_groups

        def share(first: int) -> None:
            file = pq.ParquetFile(path, read_dictionary=["symbol"])
            for group in range(first, groups, self.threads):
                file.read_row_group(group, columns=columns, use_threads=False)

        def run() -> None:
            with ThreadPoolExecutor(self.threads) as pool:
                list(pool.map(share, range(self.threads)))

        return {"decode only": run}

    def vwap(self) -> Callable[[], pa.Table]:
        """Computes nothing."""
        raise NotImplementedError("the floor computes nothing")
