"""Pathway: a Python connector of rows, and windows that it publishes once, behind the watermark."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import pathway as pw  # noqa: E402

import wire  # noqa: E402

SPEC = wire.spec()
#: A time within its window (30 bits) above a price (33 bits): the least has the first price.
PRICE_BITS = 33
#: A commit after every few ticks costs more than it saves.
COMMIT_MS = 20
MASK = (1 << PRICE_BITS) - 1


class Ticks(pw.Schema):
    ts: int
    symbol: str
    price: int
    size: int


class Lines(pw.io.python.ConnectorSubject):
    """Rows as they come; Pathway commits them together."""

    def run(self) -> None:
        source = wire.connect(SPEC["source"])
        for block in wire.blocks(source):
            for line in block.splitlines():
                ts, symbol, price, size = line.decode().split(",")
                self.next(ts=int(ts), symbol=symbol, price=int(price), size=int(size))

    @property
    def _deletions_enabled(self) -> bool:
        """Rows are only added: Pathway keeps no index of them then."""
        return False


def main() -> None:
    """Ticks to windows to lines."""
    results = wire.Results(SPEC["results"])
    width = wire.SECOND_NS
    ticks = pw.io.python.read(Lines(), schema=Ticks, autocommit_duration_ms=COMMIT_MS)
    placed = ticks.select(
        pw.this.ts,
        pw.this.symbol,
        pw.this.price,
        pw.this.size,
        place=(pw.this.ts % width) * (1 << PRICE_BITS) + pw.this.price,
        notional=pw.this.price * pw.this.size,
    )
    bars = placed.windowby(
        placed.ts,
        window=pw.temporal.tumbling(duration=width, origin=0),
        behavior=pw.temporal.exactly_once_behavior(shift=SPEC["allowed_ns"]),
        instance=placed.symbol,
    ).reduce(
        symbol=pw.this._pw_instance,
        start=pw.this._pw_window_start,
        first=pw.reducers.min(pw.this.place),
        high=pw.reducers.max(pw.this.price),
        low=pw.reducers.min(pw.this.price),
        last=pw.reducers.max(pw.this.place),
        volume=pw.reducers.sum(pw.this.size),
        notional=pw.reducers.sum(pw.this.notional),
        trades=pw.reducers.count(),
    )
    rows: list[tuple] = []

    def changed(key: object, row: dict, time: int, is_addition: bool) -> None:
        if is_addition:
            ends = (row["first"] & MASK, row["high"], row["low"], row["last"] & MASK)
            sums = (row["volume"], row["notional"], row["trades"])
            rows.append((row["symbol"], row["start"], *ends, *sums))

    def moment(time: int) -> None:
        results.send(rows)
        rows.clear()

    def end() -> None:
        moment(0)
        results.close()

    pw.io.subscribe(bars, on_change=changed, on_time_end=moment, on_end=end)
    pw.run(monitoring_level=pw.MonitoringLevel.NONE, with_http_server=False)


if __name__ == "__main__":
    main()
