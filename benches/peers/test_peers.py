"""Tests of what the benchmark's verdicts rest on: the ticks and the comparison of answers.

`target/peers/venv/bin/python -B -m unittest discover -s benches/peers`
"""

from __future__ import annotations

import tempfile
import unittest
from decimal import Decimal
from fractions import Fraction
from math import ceil, inf, nextafter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import check
import floats
import generate
import reference
from engines.isotick import definition_text, definitions
from queries import ALL, SECOND_NS, Bars, Query
from queries.sql import Dialect, place

ROWS = 300_000


def ticks(path: Path) -> dict[str, np.ndarray]:
    """A file's columns, the symbols as ranks."""
    table = pq.read_table(path)
    columns = {name: table.column(name).to_numpy() for name in ("price", "size", "side")}
    columns["ts"] = table.column("ts").cast(pa.int64()).to_numpy()
    columns["rank"] = np.array([int(name[1:]) for name in table.column("symbol").to_pylist()])
    return columns


def plain_answer(query: Query, columns: dict[str, np.ndarray]) -> list[dict]:
    """A query over the interleaved rows, tick by tick."""
    groups: dict[tuple, list[tuple[int, int, int, int]]] = {}
    rows = zip(*(columns[name].tolist() for name in ("rank", "ts", "price", "size")), strict=True)
    for row, (rank, ts, price, size) in enumerate(rows):
        symbol = f"S{rank:04d}"
        key: tuple = (symbol,)
        if isinstance(query, Bars):
            if query.symbols and symbol not in query.symbols:
                continue
            if query.size_above is not None and size <= query.size_above:
                continue
            key = (symbol, ts // query.width_ns * query.width_ns)
        groups.setdefault(key, []).append((ts, row, price, size))
    answers = []
    for key, ticks in sorted(groups.items()):
        ticks.sort()
        prices, sizes = [tick[2] for tick in ticks], [tick[3] for tick in ticks]
        every = {
            "open": prices[0],
            "high": max(prices),
            "low": min(prices),
            "close": prices[-1],
            "volume": sum(sizes),
            "notional": sum(price * size for price, size in zip(prices, sizes, strict=True)),
            "trades": len(ticks),
            "p50": sorted(sizes)[ceil(Fraction(50, 100) * len(sizes)) - 1],
            "p99": sorted(sizes)[ceil(Fraction(99, 100) * len(sizes)) - 1],
        }
        outputs = {name: every[name] for name in query.outputs}
        answers.append({**dict(zip(query.keys, key, strict=True)), **outputs})
    return answers


class Generated(unittest.TestCase):
    """The ticks have the properties that the README states."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.folder = tempfile.TemporaryDirectory()
        cls.path = Path(cls.folder.name)
        cls.properties = generate.generate(cls.path, ROWS)
        cls.ticks = ticks(cls.path / "ticks.parquet")

    @classmethod
    def tearDownClass(cls) -> None:
        cls.folder.cleanup()

    def test_the_same_seed_gives_the_same_bytes(self) -> None:
        with tempfile.TemporaryDirectory() as again, tempfile.TemporaryDirectory() as other:
            generate.generate(Path(again), ROWS)
            generate.generate(Path(other), ROWS, seed=2)
            for name in ("ticks.parquet", "sorted.parquet"):
                self.assertEqual((self.path / name).read_bytes(), (Path(again) / name).read_bytes())
                self.assertNotEqual((self.path / name).read_bytes(), (Path(other) / name).read_bytes())

    def test_the_sorted_file_holds_the_same_rows_by_symbol_time_and_row(self) -> None:
        order = np.lexsort((np.arange(ROWS), self.ticks["ts"], self.ticks["rank"]))
        ordered = ticks(self.path / "sorted.parquet")
        for name, values in self.ticks.items():
            self.assertTrue(np.array_equal(values[order], ordered[name]), name)

    def test_one_in_a_hundred_is_late_by_at_most_fifty_milliseconds(self) -> None:
        late_ns = np.maximum.accumulate(self.ticks["ts"]) - self.ticks["ts"]
        share = np.count_nonzero(late_ns) / ROWS
        self.assertTrue(0.008 < share < 0.011, share)
        self.assertLessEqual(late_ns.max(), generate.LATE_MAX_NS)
        self.assertEqual(np.count_nonzero(late_ns), self.properties.late_rows)

    def test_file_order_alone_gives_wrong_opens_and_closes(self) -> None:
        bar = self.ticks["rank"] * 1_000_000 + self.ticks["ts"] // SECOND_NS % 1_000_000
        by_row = np.lexsort((np.arange(ROWS), bar))
        by_time = np.lexsort((np.arange(ROWS), self.ticks["ts"], bar))
        starts = np.flatnonzero(np.diff(bar[by_row], prepend=-1))
        ends = np.append(starts[1:], ROWS) - 1
        for edge in (starts, ends):
            self.assertTrue((by_row[edge] != by_time[edge]).any())

    def test_the_reference_is_what_a_plain_loop_gives(self) -> None:
        for name, query in ALL.items():
            found = reference.answer(query, self.path / "sorted.parquet").to_pylist()
            self.assertEqual(found, plain_answer(query, self.ticks), name)
            self.assertGreater(len(found), 10, name)

    def test_symbols_are_skewed_and_values_in_bounds(self) -> None:
        counts = np.bincount(self.ticks["rank"], minlength=generate.SYMBOLS)
        self.assertTrue(1.8 < counts[0] / counts[1] < 2.2)
        self.assertGreater(np.count_nonzero(counts), 990)
        self.assertGreaterEqual(self.ticks["price"].min(), generate.PRICE_FLOOR)
        self.assertGreaterEqual(self.ticks["size"].min(), 1)
        self.assertLessEqual(self.ticks["size"].max(), generate.SIZE_MAX)
        self.assertEqual(set(self.ticks["side"]), {-1, 1})
        self.assertGreater(self.properties.tied_rows, 0)

    def test_a_folder_counts_as_whole_only_for_its_own_ticks(self) -> None:
        self.assertTrue(generate.is_whole(self.path, ROWS, 1))
        self.assertFalse(generate.is_whole(self.path, ROWS, 2))
        self.assertFalse(generate.is_whole(self.path, ROWS + 1, 1))


def answer(**changes: list[int]) -> pa.Table:
    """A small answer to Q2, given by an engine in any types and order."""
    columns = {
        "symbol": ["S0001", "S0000"],
        "window_start": [0, 0],
        "high": [30_000, 20_001],
        "low": [10_000, 19_999],
        "volume": [7, 3],
        "notional": [100_001, 60_000],
    }
    return pa.table({**columns, **changes})


class Compared(unittest.TestCase):
    """Equal integers are equal in any type, and one unit's difference is found."""

    query = ALL["q2"]

    def test_types_and_order_do_not_matter(self) -> None:
        plain = check.canonical(answer(), self.query)
        self.assertEqual(plain.column("symbol").to_pylist(), ["S0000", "S0001"])
        typed = answer().take([1, 0])
        typed = typed.set_column(0, "symbol", typed.column("symbol").dictionary_encode())
        typed = typed.set_column(
            1, "window_start", typed.column("window_start").cast(pa.timestamp("ns", "UTC"))
        )
        prices = pa.array([Decimal("2.0001"), Decimal("3.0000")], pa.decimal128(19, 4))
        typed = typed.set_column(2, "high", prices)
        typed = typed.set_column(4, "volume", typed.column("volume").cast(pa.uint64()))
        typed = typed.set_column(5, "notional", typed.column("notional").cast(pa.decimal128(38, 0)))
        other = check.canonical(typed, self.query)
        self.assertEqual(check.digests(plain), check.digests(other))
        self.assertIsNone(check.difference(other, plain, self.query))

    def test_every_column_counts(self) -> None:
        plain = check.canonical(answer(), self.query)
        for name in ("window_start", "high", "low", "volume", "notional"):
            changed = answer()
            values = changed.column(name).to_pylist()
            values[1] += 1
            other = check.canonical(answer(**{name: values}), self.query)
            self.assertNotEqual(check.digests(plain)[name], check.digests(other)[name])
            self.assertIn(name, check.difference(other, plain, self.query))
        self.assertIn("rows", check.difference(plain.slice(1), plain, self.query))

    def test_nulls_floats_and_wide_values_are_no_integers(self) -> None:
        for values in (
            pa.array([1, None]),
            pa.array([1.0, 2.0]),
            pa.array([Decimal(1 << 63), Decimal(0)], pa.decimal128(38, 0)),
        ):
            with self.assertRaises(ValueError):
                check.canonical(answer(high=values), self.query)
        negative = pa.array([Decimal(-1), Decimal(-(1 << 63))], pa.decimal128(38, 0))
        self.assertEqual(check.integers(pa.chunked_array([negative]), "x").to_pylist(), [-1, -(1 << 63)])

    def test_a_quotient_one_unit_in_the_last_place_off_is_wrong(self) -> None:
        reference = check.canonical(answer(), self.query)
        exact = [60_000 / 30_000, 100_001 / 70_000]
        right = pa.table({"vwap": exact})
        self.assertIsNone(check.wrong_quotients(right, reference))
        for way in (-inf, inf):
            wrong = pa.table({"vwap": [exact[0], nextafter(exact[1], way)]})
            self.assertIn("2 rows", check.wrong_quotients(wrong, reference))

    def test_wobbling_bits_are_counted_by_symbol(self) -> None:
        base = np.array([1.0, 2.0, 3.0]).view(np.uint64)
        moved = base + np.array([0, 2, 0], dtype=np.uint64)
        steady, shaken = np.stack([base, base]), np.stack([base, moved])
        found = floats._wobble("some", {1: steady, 2: shaken})
        self.assertEqual((found.runs, found.symbols, found.differ, found.ulps_max), (4, 3, 1, 2))
        self.assertEqual(found.differ_by_threads, {1: 0, 2: 1})


class Asked(unittest.TestCase):
    """What the engines are asked."""

    def test_time_and_row_fit_one_integer_or_a_wide_one_is_taken(self) -> None:
        dialect = Dialect("t", "ts", "row", False, "", "")
        for name, rows in (("q1", 20_000_000), ("q7", 20_000_000), ("q1", 100_000_000), ("q7", 100_000_000)):
            text, _ = place(ALL[name], dialect, rows)
            greatest = (ALL[name].width_ns - 1) * rows + rows - 1
            self.assertEqual("hugeint" in text, greatest >= 1 << 63, (name, rows))
        self.assertEqual(place(ALL["q1"], Dialect("t", "ts", "row", True, "", ""), 10)[0], "row")

    def test_views_declare_the_columns_and_name_every_output(self) -> None:
        for query in ALL.values():
            for definition in definitions(query):
                text = definition_text(query, definition, ("price", "size"))
                self.assertIn(f"[view.{query.name}]", text)
                given = set(definition.outputs) | ({"notional"} if definition.vwap else set())
                self.assertEqual(given | {"notional"}, set(query.outputs) | {"notional"})
                self.assertEqual(len(definition.columns()), len(set(definition.columns())))


if __name__ == "__main__":
    unittest.main()
