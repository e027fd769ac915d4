"""Deephaven: Arrow tables into a blink table, one bar per symbol and second, a listener.

It has no watermark: a window is published when the table of bars, which the listener sees whole
cycle by cycle, holds a tick past its end and the allowance.
"""

from __future__ import annotations

import io
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import pyarrow as pa  # noqa: E402
import pyarrow.csv  # noqa: E402
from deephaven_server import Server  # noqa: E402

import wire  # noqa: E402

SPEC = wire.spec()
CYCLE_MS = 10
#: A time within its window (30 bits) above a price (33 bits): the least has the first price.
PRICE_BITS = 33
NAMES = ["Ts", "Symbol", "Price", "Size"]
TYPES = {"Ts": pa.int64(), "Symbol": pa.string(), "Price": pa.int64(), "Size": pa.int64()}


def main() -> None:
    """Starts the server in this process, then feeds it."""
    settings = [
        "-Xmx4g",
        f"-DPeriodicUpdateGraph.targetCycleDurationMillis={CYCLE_MS}",
        "-DAuthHandlers=io.deephaven.auth.AnonymousAuthenticationHandler",
    ]
    server = Server(port=0, jvm_args=settings)
    server.start()
    feed()


def feed() -> None:
    """Ticks to bars to lines."""
    from deephaven import agg, dtypes
    from deephaven.arrow import to_table
    from deephaven.stream.table_publisher import table_publisher
    from deephaven.table_listener import listen

    columns = {"Ts": dtypes.int64, "Symbol": dtypes.string, "Price": dtypes.int64, "Size": dtypes.int64}
    blink, publisher = table_publisher("ticks", columns)
    width = wire.SECOND_NS
    placed = blink.update_view(
        [
            f"Start = Ts - Ts % {width}L",
            f"Place = (Ts % {width}L) * {1 << PRICE_BITS}L + Price",
            "Notional = Price * Size",
        ]
    )
    bars = placed.agg_by(
        [
            agg.min_(["First = Place", "Low = Price"]),
            agg.max_(["Last = Place", "High = Price", "Newest = Ts"]),
            agg.sum_(["Volume = Size", "Notional"]),
            agg.count_("Trades"),
        ],
        by=["Symbol", "Start"],
    )
    results = wire.Results(SPEC["results"])
    names = ["Symbol", "Start", "First", "High", "Low", "Last", "Volume", "Notional", "Trades", "Newest"]
    open_bars: dict[int, dict[str, tuple]] = {}
    mask, late = (1 << PRICE_BITS) - 1, width + SPEC["allowed_ns"]
    watermark = 0

    def changed(update, is_replay: bool) -> None:
        nonlocal watermark
        for cells in (update.added(names), update.modified(names)):
            if not cells or not len(cells["Start"]):
                continue
            watermark = max(watermark, int(cells["Newest"].max()))
            lists = [cells[name].tolist() for name in names]
            for symbol, start, first, high, low, last, *rest in zip(*lists):
                bar = (symbol, start, first & mask, high, low, last & mask, *rest[:3])
                open_bars.setdefault(start, {})[symbol] = bar
        for start in sorted(open_bars):
            if start + late > watermark:
                break
            results.send(open_bars.pop(start).values())

    handle = listen(bars, changed)
    source = wire.connect(SPEC["source"])
    read = pa.csv.ReadOptions(column_names=NAMES, use_threads=False)
    convert = pa.csv.ConvertOptions(column_types=TYPES)
    for block in wire.blocks(source):
        table = pa.csv.read_csv(io.BytesIO(block), read_options=read, convert_options=convert)
        publisher.add(to_table(table))
    # The last windows are on their way; the benchmark ends this process when it has them.
    threading.Event().wait(60)
    handle.stop()


if __name__ == "__main__":
    main()
