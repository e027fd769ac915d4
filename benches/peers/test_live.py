"""Tests of the live benchmark: its ticks, its verdicts, and the plain loop over real connections.

`target/peers/live-base/bin/python -B -m unittest discover -s benches/peers -p test_live.py`
"""

from __future__ import annotations

import os
import tempfile
import unittest
from pathlib import Path

import numpy as np

import bootstrap
import live
from streams import contest, harness, load, report
from streams.harness import Run
from streams.judge import judge

ROWS, RATE = 30_000, 10_000


def plain_answer(ticks: load.Load) -> dict:
    """Every window that closes, tick by tick."""
    windows: dict = {}
    for ts, code, price, size in zip(*(c.tolist() for c in (ticks.ts, ticks.code, ticks.price, ticks.size))):
        windows.setdefault((f"S{code:04d}", ts // load.SECOND_NS * load.SECOND_NS), []).append((ts, price, size))
    rows = {}
    for (symbol, start), found in windows.items():
        if start + load.SECOND_NS + load.ALLOWED_NS > int(ticks.ts.max()):
            continue
        found.sort()
        prices, sizes = [tick[1] for tick in found], [tick[2] for tick in found]
        notional = sum(price * size for price, size in zip(prices, sizes))
        ends = (prices[0], max(prices), min(prices), prices[-1])
        rows[symbol, start] = (symbol, start, *ends, sum(sizes), notional, len(found))
    return rows


class Ticks(unittest.TestCase):
    """The stream is what the README says."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.ticks = load.make(1, ROWS, RATE)

    def test_a_seed_gives_the_same_ticks_and_another_one_others(self) -> None:
        again, other = load.make(1, ROWS, RATE), load.make(2, ROWS, RATE)
        self.assertEqual(again.lines()[0], self.ticks.lines()[0])
        self.assertNotEqual(other.lines()[0], self.ticks.lines()[0])

    def test_times_are_unique_and_one_in_a_hundred_is_out_of_order(self) -> None:
        self.assertEqual(np.unique(self.ticks.ts).size, ROWS + 1)
        late = np.maximum.accumulate(self.ticks.ts) - self.ticks.ts
        self.assertTrue(0.007 < np.count_nonzero(late) / ROWS < 0.012)
        self.assertLess(late.max(), load.ALLOWED_NS)

    def test_the_answer_is_what_a_plain_loop_gives(self) -> None:
        answer = self.ticks.answer()
        self.assertEqual(answer, plain_answer(self.ticks))
        self.assertGreater(len(answer), 2_000)

    def test_lines_end_where_they_are_said_to(self) -> None:
        text, ends = self.ticks.lines()
        self.assertEqual((len(ends), ends[-1]), (ROWS + 1, len(text)))
        ts, symbol, price, size = text[ends[6] : ends[7] - 1].decode().split(",")
        self.assertEqual((int(ts), int(price), int(size)), (self.ticks.ts[7], self.ticks.price[7], self.ticks.size[7]))
        self.assertEqual(symbol, f"S{self.ticks.code[7]:04d}")

    def test_a_window_closes_with_the_first_tick_past_its_end_and_the_allowance(self) -> None:
        end = int(self.ticks.ts[0]) // load.SECOND_NS * load.SECOND_NS + load.SECOND_NS
        place = int(self.ticks.closing_rows(np.array([end]))[0])
        self.assertGreaterEqual(self.ticks.ts[place], end + load.ALLOWED_NS)
        self.assertLess(self.ticks.ts[:place].max(), end + load.ALLOWED_NS)


class Judged(unittest.TestCase):
    """Planted faults are counted."""

    def verdict(self, change, paced: bool = False):
        ticks = load.make(1, ROWS, RATE)
        rows = list(ticks.answer().values())
        times = [int(5e9)] * len(rows)
        change(rows, times)
        return judge(Run(rows=rows, received_ns=times, ticks=ROWS), ticks, paced, 0)

    def test_right_missing_wrong_repeated_and_unexpected(self) -> None:
        def drop(rows, times):
            del rows[3], times[3]

        def change(rows, times):
            rows[4] = (*rows[4][:6], rows[4][6] + 1, *rows[4][7:])

        def correct(rows, times):
            rows.append(rows[4])
            times.append(times[4])
            change(rows, times)

        def more(rows, times):
            rows.append(("S0000", 7, 1, 1, 1, 1, 1, 1, 1))
            times.append(1)

        faults = [(lambda rows, times: None, (0, 0, 0)), (drop, (1, 0, 0)), (change, (0, 1, 0))]
        faults += [(correct, (0, 0, 1)), (more, (0, 1, 0))]
        for fault, expected in faults:
            verdict = self.verdict(fault)
            self.assertEqual((verdict.missing, verdict.wrong, verdict.repeated), expected)
            self.assertEqual(verdict.right, expected[:2] == (0, 0))

    def test_latency_counts_from_when_the_closing_tick_was_due(self) -> None:
        ticks = load.make(1, ROWS, RATE)

        def exact(rows, times):
            for number, row in enumerate(rows):
                place = ticks.closing_rows(np.array([row[1] + load.SECOND_NS]))
                times[number] = int(ticks.due_ns(place)[0]) + 3_000_000

        latency = self.verdict(exact, paced=True).latency_ms
        self.assertEqual(set(latency.values()), {3.0})


class Measured(unittest.TestCase):
    """The whole command at smoke size."""

    def test_the_plain_loop_and_isotick_are_right(self) -> None:
        binary = bootstrap.WORK.parent / "release" / "isotick"
        engines = "isotick,python" if binary.exists() else "python"
        line = f"--ticks 20k --engines {engines} --repeat 1 --rates 10k --seconds 3 --warm-seconds 1"
        args = live.arguments([*line.split(), "--isotick", str(binary)])
        found = contest.run(args)
        self.assertTrue(found.trusted(), report.markdown(found))
        hashes = {one.paced[10_000].hash for one in found.contestants}
        self.assertEqual(len(hashes), 1)
        for one in found.contestants:
            self.assertGreater(one.paced[10_000].latency_ms["p50"], 0)
        text = report.markdown(found)
        self.assertIn("python", text)
        self.assertIn("right", text)
        self.assertEqual(report.as_json(found)["engines"][-1]["engine"], "python")

    def test_an_engine_that_ends_at_its_start_is_reported(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            liar = Path(folder) / "python"
            liar.write_text("#!/bin/sh\necho it is not installed here\nexit 3\n")
            os.chmod(liar, 0o755)
            with self.assertRaisesRegex(harness.Failed, "it is not installed here"):
                harness.Process("python", liar, None, Path(folder))


if __name__ == "__main__":
    unittest.main()
