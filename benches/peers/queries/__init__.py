"""What is computed. Every answer consists of integers, so answers are compared exactly."""

from __future__ import annotations

from dataclasses import dataclass

SECOND_NS = 1_000_000_000
MINUTE_NS = 60 * SECOND_NS
DAY_NS = 86_400 * SECOND_NS


@dataclass(frozen=True)
class Query:
    """What all queries share."""

    name: str
    title: str
    #: Columns beside the symbol that any engine must read; time only where windows need it.
    columns: tuple[str, ...]
    #: Columns of the answer that tell its rows apart.
    keys: tuple[str, ...]
    #: The other columns of the answer, all of them integers.
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Bars(Query):
    """Windows of one width per symbol.

    `open` and `close` are the prices of the first and last tick by (time, row of the file);
    `notional` is the sum of price times size, so (notional, volume) is VWAP before its division.
    """

    width_ns: int = MINUTE_NS
    #: Only ticks with a greater size.
    size_above: int | None = None
    #: Only these symbols.
    symbols: tuple[str, ...] = ()

    @property
    def needs_order(self) -> bool:
        """Whether some output depends on the order of ticks."""
        return "open" in self.outputs or "close" in self.outputs


@dataclass(frozen=True)
class Quantiles(Query):
    """Exact quantiles of `size` per symbol over everything: the value at rank ceil(q * n)."""

    #: Quantiles in hundredths, one per output.
    hundredths: tuple[int, ...] = ()


BAR_KEYS = ("symbol", "window_start")
OHLCV = ("open", "high", "low", "close", "volume")
TICK_COLUMNS = ("ts", "price", "size")

ALL: dict[str, Query] = {
    query.name: query
    for query in (
        Bars(
            name="q1",
            title="1-minute OHLCV, VWAP and count per symbol",
            columns=TICK_COLUMNS,
            keys=BAR_KEYS,
            outputs=(*OHLCV, "notional", "trades"),
            width_ns=MINUTE_NS,
        ),
        Bars(
            name="q2",
            title="high, low, volume and notional per symbol and day",
            columns=TICK_COLUMNS,
            keys=BAR_KEYS,
            outputs=("high", "low", "volume", "notional"),
            width_ns=DAY_NS,
        ),
        Bars(
            name="q3",
            title="1-second OHLCV of one mid-rank symbol over the whole range",
            columns=TICK_COLUMNS,
            keys=BAR_KEYS,
            outputs=OHLCV,
            width_ns=SECOND_NS,
            symbols=("S0500",),
        ),
        Quantiles(
            name="q4",
            title="exact median and 99th percentile of size per symbol",
            columns=("size",),
            keys=("symbol",),
            outputs=("p50", "p99"),
            hundredths=(50, 99),
        ),
        Bars(
            name="q7",
            title="5-minute OHLCV of 20 symbols, only ticks with size > 500",
            columns=TICK_COLUMNS,
            keys=BAR_KEYS,
            outputs=OHLCV,
            width_ns=5 * MINUTE_NS,
            size_above=500,
            # From the second most active to one of the least, evenly over the ranks.
            symbols=tuple(f"S{rank:04d}" for rank in range(1, 1_000, 50)),
        ),
    )
}

#: Names that are kept for what is not measured yet.
RESERVED = {"q5": "as-of joins", "q6": "returns over bars", "q8": "top-k"}
