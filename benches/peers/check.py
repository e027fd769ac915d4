"""Answers in one shape, compared exactly."""

from __future__ import annotations

import hashlib
from fractions import Fraction
from math import inf, nextafter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from queries import Query

#: Rows whose quotient is also compared with its neighbours by rational arithmetic.
SAMPLE = 1_000
PRICE_UNIT = 10_000


def integers(column: pa.ChunkedArray, name: str) -> pa.Array:
    """A column of integers, decimals (their unscaled digits) or times as 64-bit integers."""
    if column.null_count:
        raise ValueError(f"{name} has {column.null_count} nulls")
    array = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    if pa.types.is_decimal128(array.type):
        words = np.frombuffer(array.buffers()[1], dtype=np.int64).reshape(-1, 2)
        words = words[array.offset : array.offset + len(array)]
        if not np.array_equal(words[:, 1], words[:, 0] >> 63):
            raise ValueError(f"{name} holds values beyond 64 bits")
        return pa.array(words[:, 0])
    if pa.types.is_timestamp(array.type):
        array = array.cast(pa.timestamp("ns", array.type.tz)).cast(pa.int64())
    if pa.types.is_decimal(array.type) or pa.types.is_integer(array.type):
        return array.cast(pa.int64())
    raise ValueError(f"{name} is {array.type}: the answer is not of integers")


def canonical(table: pa.Table, query: Query, outputs: tuple[str, ...] | None = None) -> pa.Table:
    """The answer's keys and outputs, by key; further columns are left out."""
    columns: dict[str, pa.Array | pa.ChunkedArray] = {}
    for name in (*query.keys, *(query.outputs if outputs is None else outputs)):
        column = table.column(name)
        columns[name] = column.cast(pa.string()) if name == "symbol" else integers(column, name)
    if "vwap" in table.column_names:
        columns["vwap"] = table.column("vwap").cast(pa.float64())
    shaped = pa.table(columns)
    return shaped.take(pc.sort_indices(shaped, [(key, "ascending") for key in query.keys]))


def write_answer(table: pa.Table, path: Path) -> None:
    """Keeps an answer for the comparison."""
    pq.write_table(table, path, compression="none")


def digests(table: pa.Table) -> dict[str, str]:
    """One digest per column, so that many answers are compared without holding them."""
    found = {}
    for name in table.column_names:
        column = table.column(name)
        if pa.types.is_string(column.type):
            content = "\n".join(column.to_pylist()).encode()
        else:
            content = column.to_numpy().tobytes()
        found[name] = hashlib.blake2b(content, digest_size=16).hexdigest()
    return found


def difference(answer: pa.Table, reference: pa.Table, query: Query) -> str | None:
    """Where the answer's integers are not the reference's; columns that it lacks are skipped."""
    if answer.num_rows != reference.num_rows:
        return f"{answer.num_rows} rows, not {reference.num_rows}"
    for name in (*query.keys, *query.outputs):
        if name not in answer.column_names:
            continue
        equal = pc.equal(answer.column(name), reference.column(name))
        wrong = len(equal) - (pc.sum(equal).as_py() or 0)
        if wrong:
            at = pc.index(equal, False).as_py()
            row = ", ".join(str(reference.column(key)[at]) for key in query.keys)
            found, expected = answer.column(name)[at], reference.column(name)[at]
            return f"{name} differs in {wrong} rows, first at {row}: {found}, not {expected}"
    return None


def wrong_quotients(answer: pa.Table, reference: pa.Table) -> str | None:
    """Whether some `vwap` is not the binary64 nearest to notional / volume.

    Python's division of integers is correctly rounded; a sample is judged once more by exact
    distances to the neighbouring doubles.
    """
    columns = (answer.column("vwap"), reference.column("notional"), reference.column("volume"))
    rows = list(zip(*(column.to_pylist() for column in columns), strict=True))
    wrong = sum(value != notional / (volume * PRICE_UNIT) for value, notional, volume in rows)
    for value, notional, volume in rows[:: max(1, len(rows) // SAMPLE)]:
        exact = Fraction(notional, volume * PRICE_UNIT)
        error = abs(Fraction(value) - exact)
        if any(abs(Fraction(nextafter(value, way)) - exact) < error for way in (-inf, inf)):
            wrong += 1
    return f"vwap is not the nearest double in {wrong} rows" if wrong else None
