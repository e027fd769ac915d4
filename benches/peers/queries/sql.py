"""The queries as SQL, from what the dialects name differently."""

from __future__ import annotations

from dataclasses import dataclass

from queries import Bars, Quantiles, Query


@dataclass(frozen=True)
class Dialect:
    """How one engine says what the queries need, over one layout."""

    #: The relation that holds the ticks.
    relation: str
    #: A tick's time as 64-bit nanoseconds.
    time: str
    #: An integer by which rows of equal time are ordered: the row's number in the file.
    row: str
    #: Whether rows of one symbol already stand in the order of (time, row): then `row` is enough.
    ordered: bool
    #: Functions that pick the first argument where the second is least, greatest.
    first: str
    last: str
    #: Integer division with `{a}` and `{b}`.
    divide: str = "{a} / {b}"
    #: An integer type of at least 128 bits, where 64 are too few for time and row in one.
    wide: str = "hugeint"


def place(query: Bars, dialect: Dialect, rows: int) -> tuple[str, str]:
    """An integer that orders a window's ticks by (time, row), and how the tables call it."""
    if dialect.ordered:
        return dialect.row, "row order"
    # One integer is compared several times faster than a pair.
    if query.width_ns * rows < 1 << 63:
        return f"({dialect.time}) % {query.width_ns} * {rows} + {dialect.row}", "(ts, row) in 64 bits"
    wide = f"cast(({dialect.time}) % {query.width_ns} as {dialect.wide}) * {rows} + {dialect.row}"
    return wide, "(ts, row) in 128 bits"


def bars(query: Bars, dialect: Dialect, rows: int) -> tuple[str, str]:
    """The query's text and the order it relies on."""
    conditions = []
    if query.size_above is not None:
        conditions.append(f"size > {query.size_above}")
    if len(query.symbols) == 1:
        conditions.append(f"symbol = '{query.symbols[0]}'")
    elif query.symbols:
        names = ", ".join(f"'{name}'" for name in query.symbols)
        conditions.append(f"symbol in ({names})")
    where = f" where {' and '.join(conditions)}" if conditions else ""

    expressions = {
        "open": dialect.first.format(value="price", by="place"),
        "high": "max(price)",
        "low": "min(price)",
        "close": dialect.last.format(value="price", by="place"),
        "volume": "sum(size)",
        "notional": "sum(price * size)",
        "trades": "count(*)",
    }
    ordinal, order = place(query, dialect, rows) if query.needs_order else ("", "any order")
    bar = dialect.divide.format(a=dialect.time, b=query.width_ns)
    inner = ["symbol", "price", "size", f"{bar} as bar"]
    if query.needs_order:
        inner.append(f"{ordinal} as place")
    outer = ["symbol", f"bar * {query.width_ns} as window_start"]
    outer += [f"{expressions[name]} as {name}" for name in query.outputs]
    text = (
        f"select {', '.join(outer)} "
        f"from (select {', '.join(inner)} from {dialect.relation}{where}) as ticks "
        f"group by symbol, bar"
    )
    return text, order


def quantiles_by_counts(query: Quantiles, dialect: Dialect) -> str:
    """Quantiles from how often each size occurs: exact everywhere, fast where sorting is slow."""
    frame = "partition by symbol order by size rows between unbounded preceding and current row"
    outer = [
        f"min(case when 100 * upto >= {hundredths} * total then size end) as {name}"
        for name, hundredths in zip(query.outputs, query.hundredths)
    ]
    return (
        f"with counts as (select symbol, size, count(*) as n from {dialect.relation} group by symbol, size), "
        f"ranked as (select symbol, size, sum(n) over ({frame}) as upto, "
        f"sum(n) over (partition by symbol) as total from counts) "
        f"select symbol, {', '.join(outer)} from ranked group by symbol"
    )


def forms(query: Query, dialect: Dialect, rows: int, native_quantiles: str | None) -> dict[str, str]:
    """All correct forms of a query worth trying, by what the tables call them."""
    match query:
        case Bars():
            text, order = bars(query, dialect, rows)
            return {order: text}
        case Quantiles():
            found = {"by counts": quantiles_by_counts(query, dialect)}
            if native_quantiles is not None:
                found["native"] = native_quantiles
            return found
    raise TypeError(f"no SQL for {query}")
