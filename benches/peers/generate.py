"""Deterministic ticks for the peer benchmark, as Parquet, interleaved and sorted.

The same seed, row count and numpy version give the same rows on every machine: random bits come
from PCG64 streams that are seeded per chunk, and every draw passes through integer tables or basic
IEEE operations. Of two files of whole millions of rows the shorter is the beginning of the longer.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

#: Part of the cache's marker: raise it whenever the rows would change.
VERSION = 1

SYMBOLS = 1_000
ROWS_PER_DAY = 10_000_000
ROWS_PER_CHUNK = 1_000_000
ROWS_PER_GROUP = 1 << 20
#: Rows that the sorted file's sort holds at once, unless one symbol alone has more.
ROWS_PER_SORT = 8_000_000

SESSION_START_NS = int(13.5 * 3600) * 1_000_000_000
SESSION_NS = int(6.5 * 3600) * 1_000_000_000
FIRST_DAY = "2024-01-02"
DAY_NS = 86_400 * 1_000_000_000

LATE_SHARE = 0.01
LATE_MAX_NS = 50_000_000
TIE_SHARE = 0.001

PRICE_SCALE = 4
PRICE_STEP = 50
PRICE_FLOOR = 100
SIZE_MEDIAN = 100
SIZE_SIGMA = 1.2
SIZE_MAX = 10_000

SCHEMA = pa.schema(
    [
        pa.field("ts", pa.timestamp("ns"), nullable=False),
        pa.field("symbol", pa.string(), nullable=False),
        pa.field("price", pa.int64(), nullable=False, metadata={"scale": str(PRICE_SCALE)}),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("side", pa.int8(), nullable=False),
    ]
)

#: A tick as it is spilled for the sort; `code` is the symbol's rank.
RECORD = np.dtype([("ts", "<i8"), ("price", "<i8"), ("size", "<i2"), ("code", "<i2"), ("side", "i1")])

SYMBOL_NAMES = pa.array([f"S{rank:04d}" for rank in range(SYMBOLS)], pa.string())


@dataclass(frozen=True)
class Properties:
    """What was generated; beside the files it says that they are whole."""

    version: int
    rows: int
    seed: int
    numpy: str
    pyarrow: str
    days: int
    late_rows: int
    tied_rows: int


def zipf_bounds() -> np.ndarray:
    """Upper bounds of the symbols' shares of [0, 1), by rank: share ~ 1 / rank."""
    shares = 1.0 / np.arange(1, SYMBOLS + 1, dtype=np.float64)
    bounds = np.cumsum(shares)
    return bounds / bounds[-1]


def size_table() -> np.ndarray:
    """Sizes by 16 random bits: a log-normal's quantiles, rounded and clipped to 1..10,000."""
    normal = NormalDist()
    quantiles = (normal.inv_cdf((i + 0.5) / 65_536) for i in range(65_536))
    sizes = (round(SIZE_MEDIAN * math.exp(SIZE_SIGMA * q)) for q in quantiles)
    return np.array([min(max(s, 1), SIZE_MAX) for s in sizes], dtype=np.int16)


def day_start_ns(day: int) -> int:
    """The session's start on the `day`-th business day, in nanoseconds since 1970 UTC."""
    date = np.busday_offset(FIRST_DAY, day, roll="forward")
    return int(date.astype("datetime64[D]").astype(np.int64)) * DAY_NS + SESSION_START_NS


class Market:
    """Chunks of ticks in file order, one after the other."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.bounds = zipf_bounds()
        self.sizes = size_table()
        first = np.random.Generator(np.random.PCG64([seed, 0xF1257]))
        # Walks start between 5.0000 and 500.0000 and are reflected at a floor.
        self.walks = first.integers(50_000, 5_000_000, SYMBOLS, dtype=np.int64)
        self.late_rows = 0
        self.tied_rows = 0

    def chunk(self, day: int, start: int, rows: int) -> np.ndarray:
        """Rows `start .. start + rows` of a day."""
        rng = np.random.Generator(np.random.PCG64([self.seed, day, start]))
        # The rate is the same in every file: a short file ends early in the session.
        begin = day_start_ns(day) + SESSION_NS * start // ROWS_PER_DAY
        end = day_start_ns(day) + SESSION_NS * (start + rows) // ROWS_PER_DAY
        ts = np.sort(rng.integers(begin, end, rows, dtype=np.int64))
        tied = np.flatnonzero(rng.random(rows - 1) < TIE_SHARE) + 1
        ts[tied] = ts[tied - 1]

        chunk = np.empty(rows, dtype=RECORD)
        chunk["ts"] = ts
        codes = np.searchsorted(self.bounds, rng.random(rows), side="right").astype(np.int16)
        np.minimum(codes, SYMBOLS - 1, out=codes)
        chunk["code"] = codes
        chunk["price"] = self.prices(codes, rng.integers(-PRICE_STEP, PRICE_STEP + 1, rows))
        chunk["size"] = self.sizes[rng.integers(0, 65_536, rows, dtype=np.uint16)]
        chunk["side"] = rng.integers(0, 2, rows, dtype=np.int8) * 2 - 1

        # A late tick stands where its time plus its delay would, at the latest at the chunk's end.
        late = np.flatnonzero(rng.random(rows) < LATE_SHARE)
        place = ts.copy()
        place[late] += rng.integers(1, LATE_MAX_NS + 1, late.size)
        chunk = chunk[np.argsort(place, kind="stable")]

        self.tied_rows += tied.size
        self.late_rows += int(np.count_nonzero(chunk["ts"] < np.maximum.accumulate(chunk["ts"])))
        return chunk

    def prices(self, codes: np.ndarray, steps: np.ndarray) -> np.ndarray:
        """Each symbol's walk, carried on from the chunk before."""
        order = np.argsort(codes, kind="stable")
        sums = np.cumsum(steps[order])
        counts = np.bincount(codes, minlength=SYMBOLS)
        ends = np.cumsum(counts)
        before = np.concatenate(([0], sums))[ends - counts]
        walked = sums - np.repeat(before - self.walks, counts)
        self.walks = self.walks + np.concatenate(([0], sums))[ends] - before
        raw = np.empty(codes.size, dtype=np.int64)
        raw[order] = walked
        return np.abs(raw - PRICE_FLOOR) + PRICE_FLOOR


class GroupedWriter:
    """A Parquet file with row groups of one size, whatever sizes the pieces have."""

    def __init__(self, path: Path) -> None:
        self.file = pq.ParquetWriter(path, SCHEMA, compression="zstd")
        self.pending: list[pa.Table] = []
        self.rows = 0

    def write(self, records: np.ndarray) -> None:
        """Appends rows."""
        symbols = pa.DictionaryArray.from_arrays(pa.array(records["code"]), SYMBOL_NAMES)
        columns = [
            pa.array(records["ts"]).cast(pa.timestamp("ns")),
            symbols.cast(pa.string()),
            pa.array(records["price"]),
            pa.array(records["size"].astype(np.int64)),
            pa.array(records["side"]),
        ]
        self.pending.append(pa.Table.from_arrays(columns, schema=SCHEMA))
        self.rows += records.size
        while self.rows >= ROWS_PER_GROUP:
            self._flush(ROWS_PER_GROUP)

    def _flush(self, rows: int) -> None:
        table = pa.concat_tables(self.pending)
        self.file.write_table(table.slice(0, rows), row_group_size=ROWS_PER_GROUP)
        self.pending = [table.slice(rows)]
        self.rows -= rows

    def close(self) -> None:
        """Writes what is left and the footer."""
        if self.rows > 0:
            self._flush(self.rows)
        self.file.close()


class Spill:
    """Ticks by bands of symbols on disk, so that each band is sorted in memory by itself."""

    def __init__(self, folder: Path, rows: int, bounds: np.ndarray) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        share = max(ROWS_PER_SORT / rows, 1e-9)
        self.band = np.minimum(np.floor(np.concatenate(([0.0], bounds[:-1])) / share), 255).astype(np.uint8)
        # Every band holds at least its first symbol, so bands without one are left out.
        _, self.band = np.unique(self.band, return_inverse=True)
        self.band = self.band.astype(np.uint8)
        self.paths = [folder / f"band-{i}" for i in range(int(self.band.max()) + 1)]
        self.files = [path.open("wb") for path in self.paths]

    def write(self, chunk: np.ndarray) -> None:
        """Appends a chunk; within a band the file's order is kept."""
        bands = self.band[chunk["code"]]
        for number, file in enumerate(self.files):
            chunk[bands == number].tofile(file)

    def drain(self, out: GroupedWriter) -> None:
        """Writes all rows by symbol, time and row, and removes the spilled ones."""
        for path, file in zip(self.paths, self.files):
            file.close()
            records = np.fromfile(path, dtype=RECORD)
            path.unlink()
            # Names sort as ranks do; lexsort is stable, so equal times keep the file's order.
            order = np.lexsort((records["ts"], records["code"]))
            for start in range(0, order.size, ROWS_PER_GROUP):
                out.write(records[order[start : start + ROWS_PER_GROUP]])
        shutil.rmtree(self.folder)


def is_whole(folder: Path, rows: int, seed: int) -> bool:
    """Whether `folder` holds the files of exactly these ticks."""
    try:
        stated = json.loads((folder / "properties.json").read_text())
    except (OSError, ValueError):
        return False
    wanted = {"version": VERSION, "rows": rows, "seed": seed}
    files = all((folder / name).is_file() for name in ("ticks.parquet", "sorted.parquet"))
    return files and all(stated.get(name) == value for name, value in wanted.items())


def generate(folder: Path, rows: int, seed: int = 1) -> Properties:
    """Writes `ticks.parquet` (interleaved) and `sorted.parquet`, then `properties.json`."""
    if rows < 2:
        raise ValueError(f"{rows} rows: at least two are needed")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "properties.json").unlink(missing_ok=True)
    market = Market(seed)
    spill = Spill(folder / "spill", rows, market.bounds)
    interleaved = GroupedWriter(folder / "ticks.parquet.part")
    done = 0
    while done < rows:
        day, start = divmod(done, ROWS_PER_DAY)
        count = min(ROWS_PER_CHUNK, ROWS_PER_DAY - start, rows - done)
        chunk = market.chunk(day, start, count)
        interleaved.write(chunk)
        spill.write(chunk)
        done += count
    interleaved.close()
    ordered = GroupedWriter(folder / "sorted.parquet.part")
    spill.drain(ordered)
    ordered.close()
    for name in ("ticks.parquet", "sorted.parquet"):
        (folder / f"{name}.part").rename(folder / name)
    properties = Properties(
        version=VERSION,
        rows=rows,
        seed=seed,
        numpy=np.__version__,
        pyarrow=pa.__version__,
        days=-(-rows // ROWS_PER_DAY),
        late_rows=market.late_rows,
        tied_rows=market.tied_rows,
    )
    (folder / "properties.json").write_text(json.dumps(asdict(properties), indent=2) + "\n")
    return properties


def main() -> int:
    """Command line of the generator alone."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    began = time.perf_counter()
    properties = generate(args.out, args.rows, args.seed)
    print(json.dumps(asdict(properties)), f"{time.perf_counter() - began:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
