"""The right answers, computed plainly with numpy: what every engine is compared with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from queries import Bars, Quantiles, Query


def by_symbol(path: Path) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Each symbol's ticks in the order of (time, row), from the file that is sorted so."""
    file = pq.ParquetFile(path, read_dictionary=["symbol"])
    current: str | None = None
    pieces: list[pa.Table] = []
    for group in range(file.num_row_groups):
        table = file.read_row_group(group, columns=["symbol", "ts", "price", "size"])
        column = table.column("symbol").combine_chunks().dictionary_encode()
        codes, names = column.indices.to_numpy(), column.dictionary.to_pylist()
        starts = np.flatnonzero(np.diff(codes, prepend=-1))
        for start, end in zip(starts, np.append(starts[1:], len(codes)), strict=True):
            name = names[codes[start]]
            if name != current and current is not None:
                yield current, _columns(pieces)
                pieces = []
            current = name
            pieces.append(table.slice(start, end - start))
    if current is not None:
        yield current, _columns(pieces)


def _columns(pieces: list[pa.Table]) -> dict[str, np.ndarray]:
    table = pa.concat_tables(pieces)
    return {name: table.column(name).cast(pa.int64()).to_numpy() for name in ("ts", "price", "size")}


def answer(query: Query, path: Path) -> pa.Table:
    """The canonical answer to a query: by key, all columns of integers but the symbol."""
    symbols: list[str] = []
    parts: dict[str, list[np.ndarray]] = {name: [] for name in (*query.keys[1:], *query.outputs)}
    for symbol, ticks in by_symbol(path):
        found = _bars(query, symbol, ticks) if isinstance(query, Bars) else _quantiles(query, ticks)
        if found is None:
            continue
        for name, values in found.items():
            parts[name].append(values)
        symbols += [symbol] * len(found[query.outputs[0]])
    empty = np.empty(0, dtype=np.int64)
    columns = {name: np.concatenate([empty, *values]) for name, values in parts.items()}
    return pa.table({"symbol": pa.array(symbols, pa.string()), **columns})


def _bars(query: Bars, symbol: str, ticks: dict[str, np.ndarray]) -> dict[str, np.ndarray] | None:
    if query.symbols and symbol not in query.symbols:
        return None
    ts, price, size = ticks["ts"], ticks["price"], ticks["size"]
    if query.size_above is not None:
        kept = size > query.size_above
        ts, price, size = ts[kept], price[kept], size[kept]
    if ts.size == 0:
        return None
    window = ts - ts % query.width_ns
    starts = np.flatnonzero(np.concatenate(([True], window[1:] != window[:-1])))
    ends = np.append(starts[1:], ts.size)
    every = {
        "window_start": window[starts],
        "open": price[starts],
        "high": np.maximum.reduceat(price, starts),
        "low": np.minimum.reduceat(price, starts),
        "close": price[ends - 1],
        "volume": np.add.reduceat(size, starts),
        "notional": np.add.reduceat(price * size, starts),
        "trades": ends - starts,
    }
    return {name: every[name] for name in ("window_start", *query.outputs)}


def _quantiles(query: Quantiles, ticks: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    ordered = np.sort(ticks["size"])
    ranks = [-(-h * ordered.size // 100) for h in query.hundredths]
    return {name: ordered[rank - 1 : rank] for name, rank in zip(query.outputs, ranks, strict=True)}
