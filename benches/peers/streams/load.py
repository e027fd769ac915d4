"""One stream of ticks: as text for the engines, as Parquet for Isotick, and its right answer.

Times are unique, so that the first and the last price of a window are told by time alone: engines
that have no order by two columns are not at a disadvantage.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

import generate

SECOND_NS = 1_000_000_000
#: How long after a window's end, in event time, it is published: no tick comes later.
ALLOWED_NS = generate.LATE_MAX_NS

Row = tuple[str, int, int, int, int, int, int, int, int]

SCHEMA = pa.schema([field for field in generate.SCHEMA if field.name != "side"])


@dataclass(frozen=True)
class Load:
    """Ticks in the order in which they are sent."""

    rate: int
    ts: np.ndarray
    code: np.ndarray
    price: np.ndarray
    size: np.ndarray

    @property
    def rows(self) -> int:
        """Ticks, the last one, which closes every window, included."""
        return int(self.ts.size)

    def table(self) -> pa.Table:
        """As Isotick's file has them."""
        symbols = pa.DictionaryArray.from_arrays(pa.array(self.code), generate.SYMBOL_NAMES)
        columns = [pa.array(self.ts), symbols.cast(pa.string()), pa.array(self.price), pa.array(self.size)]
        columns[0] = columns[0].cast(pa.timestamp("ns"))
        return pa.Table.from_arrays(columns, schema=SCHEMA)

    def write_parquet(self, path: Path) -> None:
        """The file that Isotick publishes."""
        pq.write_table(self.table(), path, compression="zstd")

    def lines(self) -> tuple[bytes, np.ndarray]:
        """`ts,symbol,price,size` per tick, and where each line ends."""
        table = self.table()
        table = table.set_column(0, "ts", pa.array(self.ts))
        options = pa.csv.WriteOptions(include_header=False, quoting_style="none")
        sink = pa.BufferOutputStream()
        pa.csv.write_csv(table, sink, options)
        text = sink.getvalue().to_pybytes()
        ends = np.flatnonzero(np.frombuffer(text, dtype=np.uint8) == ord("\n")) + 1
        return text, ends

    def due_ns(self, rows: np.ndarray) -> np.ndarray:
        """When ticks are due after the start, by their places."""
        return rows * SECOND_NS // self.rate

    def closing_rows(self, ends: np.ndarray) -> np.ndarray:
        """The tick that closes the windows which end at `ends`, by its place."""
        return np.searchsorted(np.maximum.accumulate(self.ts), ends + ALLOWED_NS)

    def answer(self) -> dict[tuple[str, int], Row]:
        """Every window that closes: open, high, low, close, volume, notional, ticks."""
        window = self.ts // SECOND_NS
        order = np.lexsort((self.ts, window, self.code))
        code, window, ts = self.code[order], window[order], self.ts[order]
        price, size = self.price[order], self.size[order]
        starts = np.flatnonzero((np.diff(code, prepend=-1) != 0) | (np.diff(window, prepend=-1) != 0))
        ends = np.append(starts[1:], ts.size) - 1
        columns = [
            window[starts] * SECOND_NS,
            price[starts],
            np.maximum.reduceat(price, starts),
            np.minimum.reduceat(price, starts),
            price[ends],
            np.add.reduceat(size, starts),
            np.add.reduceat(price * size, starts),
            ends - starts + 1,
        ]
        closes = columns[0] + SECOND_NS + ALLOWED_NS <= int(self.ts.max())
        names = generate.SYMBOL_NAMES.take(pa.array(code[starts])).to_pylist()
        rows = zip(names, *(column.tolist() for column in columns), closes.tolist(), strict=True)
        return {(row[0], row[1]): row[:-1] for row in rows if row[-1]}


def make(seed: int, rows: int, rate: int) -> Load:
    """`rows` ticks whose event time runs at `rate` a second, and one that closes all windows.

    The symbols, prices and sizes are those of the scan benchmark's market; one tick in a hundred
    stands where one up to 50 ms later would.
    """
    market = generate.Market(seed)
    rng = np.random.Generator(np.random.PCG64([seed, rate, rows]))
    gap = SECOND_NS // rate
    ts = generate.day_start_ns(0) + np.cumsum(rng.integers(1, 2 * gap, rows, dtype=np.int64))
    code = np.searchsorted(market.bounds, rng.random(rows), side="right").astype(np.int16)
    np.minimum(code, generate.SYMBOLS - 1, out=code)
    steps = rng.integers(-generate.PRICE_STEP, generate.PRICE_STEP + 1, rows)
    price = market.prices(code, steps)
    size = market.sizes[rng.integers(0, 65_536, rows, dtype=np.uint16)].astype(np.int64)
    late = np.flatnonzero(rng.random(rows) < generate.LATE_SHARE)
    place = ts.copy()
    place[late] += rng.integers(1, generate.LATE_MAX_NS + 1, late.size)
    order = np.argsort(place, kind="stable")
    columns = [column[order] for column in (ts, code, price, size)]
    last = (int(ts.max()) // SECOND_NS + 3) * SECOND_NS
    ends = [last, 0, 10_000, 1]
    columns = [np.append(column, column.dtype.type(end)) for column, end in zip(columns, ends)]
    return Load(rate, *columns)


def digest(rows: dict[tuple[str, int], Row]) -> str:
    """One hash of an answer: equal answers have equal ones."""
    content = "\n".join(",".join(map(str, rows[key])) for key in sorted(rows))
    return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()
