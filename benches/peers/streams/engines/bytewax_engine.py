"""Bytewax: a Python source of lines, and its own windows, which are folded per symbol.

Its event clock lets the watermark run with the machine's clock, by symbol: with ticks of the past,
or faster than they happened, it drops some as late. This clock follows the greatest time of the
whole stream instead, less the allowance, one batch behind, so that none is late.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import bytewax.operators as op  # noqa: E402
import bytewax.operators.windowing as win  # noqa: E402
from bytewax.dataflow import Dataflow  # noqa: E402
from bytewax.inputs import DynamicSource, StatelessSourcePartition  # noqa: E402
from bytewax.operators.windowing import Clock, ClockLogic, TumblingWindower  # noqa: E402
from bytewax.outputs import DynamicSink, StatelessSinkPartition  # noqa: E402
from bytewax.testing import cluster_main  # noqa: E402

import wire  # noqa: E402

EPOCH = datetime(2024, 1, 1, tzinfo=timezone.utc)
EPOCH_NS = int(EPOCH.timestamp()) * wire.SECOND_NS
FIRST = datetime.min.replace(tzinfo=timezone.utc)
LAST = datetime.max.replace(tzinfo=timezone.utc)
SPEC = wire.spec()
ALLOWED = timedelta(microseconds=SPEC["allowed_ns"] // 1_000)
#: How soon a window is looked at again whose time has not come.
AGAIN = timedelta(milliseconds=10)


class Stream:
    """How far the stream has come: the greatest time of batches that the windows have seen."""

    watermark = FIRST
    #: When that was, by the machine's clock.
    at = datetime.now(timezone.utc)


def time_of(ts: int) -> datetime:
    """Bytewax counts time in microseconds; what is below is kept beside it, for open and close."""
    return EPOCH + timedelta(microseconds=(ts - EPOCH_NS) // 1_000)


class Lines(StatelessSourcePartition):
    """Batches of (symbol, tick) as they come; the watermark moves with the batch after."""

    def __init__(self) -> None:
        self.source = wire.connect(SPEC["source"])
        self.blocks = wire.blocks(self.source)
        self.greatest = 0

    def next_batch(self) -> list:
        if self.greatest:
            Stream.watermark = time_of(self.greatest) - ALLOWED
            Stream.at = datetime.now(timezone.utc)
        block = next(self.blocks, None)
        if block is None:
            raise StopIteration
        batch = []
        for line in block.splitlines():
            ts, symbol, price, size = line.decode().split(",")
            tick = (int(ts), int(price), int(size))
            batch.append((symbol, tick))
            self.greatest = max(self.greatest, tick[0])
        return batch


class Source(DynamicSource):
    def build(self, step_id: str, worker_index: int, worker_count: int) -> Lines:
        return Lines()


class Follows(ClockLogic):
    """The watermark of the stream, for every symbol alike."""

    def before_batch(self) -> None:
        self.now = Stream.watermark

    def on_item(self, value: tuple) -> tuple[datetime, datetime]:
        return time_of(value[0]), self.now

    def on_notify(self) -> datetime:
        return Stream.watermark

    def on_eof(self) -> datetime:
        return LAST

    def to_system_utc(self, timestamp: datetime) -> datetime:
        """When event time will come there if it runs as the machine's clock does."""
        now = datetime.now(timezone.utc)
        if Stream.watermark == FIRST:
            return now + AGAIN
        return max(Stream.at + (timestamp - Stream.watermark), now + AGAIN)

    def snapshot(self) -> None:
        return None


@dataclass
class StreamClock(Clock):
    def build(self, resume_state: None) -> Follows:
        return Follows()


class Bar:
    """A window of a symbol."""

    __slots__ = ("values",)

    def __init__(self) -> None:
        self.values: list[int] | None = None


def fold(bar: Bar, tick: tuple[int, int, int]) -> Bar:
    """Adds one tick."""
    ts, price, size = tick
    v = bar.values
    if v is None:
        bar.values = [ts, ts, price, price, price, price, size, price * size, 1]
        return bar
    if ts < v[0]:
        v[0], v[2] = ts, price
    if ts > v[1]:
        v[1], v[5] = ts, price
    v[3] = max(v[3], price)
    v[4] = min(v[4], price)
    v[6] += size
    v[7] += price * size
    v[8] += 1
    return bar


class Out(StatelessSinkPartition):
    def __init__(self) -> None:
        self.results = wire.Results(SPEC["results"])

    def write_batch(self, items: list) -> None:
        second = wire.SECOND_NS
        rows = []
        for symbol, (_, bar) in items:
            v = bar.values
            rows.append((symbol, v[0] // second * second, *v[2:]))
        self.results.send(rows)


class Sink(DynamicSink):
    def build(self, step_id: str, worker_index: int, worker_count: int) -> Out:
        return Out()


def main() -> None:
    """One worker: with Python's lock a second one gains nothing."""
    flow = Dataflow("bars")
    ticks = op.input("lines", flow, Source())
    windower = TumblingWindower(length=timedelta(seconds=1), align_to=EPOCH)
    windows = win.fold_window(
        "bars", ticks, StreamClock(), windower, Bar, fold, lambda one, _: one, ordered=False
    )
    op.output("rows", windows.down, Sink())
    cluster_main(flow, [], 0)


if __name__ == "__main__":
    main()
