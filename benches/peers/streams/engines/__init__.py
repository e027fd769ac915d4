"""The engines of the live benchmark by name: what each is asked in, and how it takes ticks."""

from __future__ import annotations

from dataclasses import dataclass

ISOTICK, PYTHON = "isotick", "python"


@dataclass(frozen=True)
class Engine:
    """One engine."""

    #: Its environment; `None` for that of the benchmark itself.
    environment: str | None
    #: The package whose version is shown.
    package: str | None
    #: The form in which ticks reach it and it is asked.
    form: str
    #: Its share of the ticks flat out: slow engines get fewer, the fastest more.
    share: float = 1.0


ENGINES: dict[str, Engine] = {
    ISOTICK: Engine(None, None, "columnar frames over QUIC, a view; windows over QUIC", 2.0),
    PYTHON: Engine(None, None, "CSV lines over TCP into one dictionary of lists"),
    "flink": Engine(
        "flink",
        "apache-flink",
        "CSV lines over TCP into Java's socketTextStream; SQL: TUMBLE by symbol, watermark - 50 ms; "
        "writeToSocket; no Python per tick; 1 task",
    ),
    "deephaven": Engine(
        "deephaven",
        "deephaven-server",
        "CSV lines over TCP, parsed by pyarrow into Arrow, TablePublisher; agg_by symbol and "
        "lowerBin; listener; 10 ms cycles",
    ),
    "bytewax": Engine(
        "bytewax",
        "bytewax",
        "CSV lines over TCP, Python source and fold_window; a clock that follows the stream's time",
        0.2,
    ),
    "pathway": Engine(
        "pathway",
        "pathway",
        "CSV lines over TCP, Python connector; windowby tumbling with exactly-once behaviour; subscribe",
        0.2,
    ),
}
