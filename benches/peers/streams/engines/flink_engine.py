"""Flink: a job in the JVM from socket to socket, asked in SQL; Python only describes it."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pyflink.common import Configuration  # noqa: E402
from pyflink.datastream import StreamExecutionEnvironment  # noqa: E402
from pyflink.java_gateway import get_gateway  # noqa: E402
from pyflink.table import StreamTableEnvironment  # noqa: E402

import wire  # noqa: E402

SPEC = wire.spec()
SETTINGS = {
    "parallelism.default": "1",
    # Flink's own is 200 ms: how often the watermark is sent on.
    "pipeline.auto-watermark-interval": "5 ms",
    # Flink's own is 100 ms: how long records wait in a network buffer that is not full.
    "execution.buffer-timeout.interval": "1 ms",
    "pipeline.object-reuse": "true",
    "table.local-time-zone": "UTC",
}
#: A time within its window (30 bits) above a price (33 bits): the least has the first price.
PRICE = 1 << 33
#: The first millisecond of the watermark with which a window may close: Flink closes one a
#: millisecond before its end, and counts event time in whole milliseconds.
WAIT_MS = SPEC["allowed_ns"] // 1_000_000 + 1

BARS = f"""
    SELECT symbol || ',' || CAST(MIN(ts) - MOD(MIN(ts), {wire.SECOND_NS}) AS STRING)
      || ',' || CAST(MOD(MIN(place), {PRICE}) AS STRING)
      || ',' || CAST(MAX(price) AS STRING) || ',' || CAST(MIN(price) AS STRING)
      || ',' || CAST(MOD(MAX(place), {PRICE}) AS STRING)
      || ',' || CAST(SUM(size) AS STRING) || ',' || CAST(SUM(price * size) AS STRING)
      || ',' || CAST(COUNT(*) AS STRING) || '\n'
    FROM TABLE(TUMBLE(TABLE ticks, DESCRIPTOR(happened), INTERVAL '1' SECOND))
    GROUP BY symbol, window_start, window_end
"""


def main() -> None:
    """Ticks to windows to lines."""
    settings = Configuration()
    for name, value in SETTINGS.items():
        settings.set_string(name, value)
    env = StreamExecutionEnvironment.get_execution_environment(settings)
    tables = StreamTableEnvironment.create(env)
    jvm = get_gateway().jvm
    java_env, java_tables = env._j_stream_execution_environment, tables._j_tenv
    lines = java_env.socketTextStream("127.0.0.1", SPEC["source"], "\n")
    schema = (
        jvm.org.apache.flink.table.api.Schema.newBuilder()
        .column("f0", "STRING")
        .columnByExpression(
            "happened", "TO_TIMESTAMP_LTZ(CAST(SPLIT_INDEX(f0, ',', 0) AS BIGINT) / 1000000, 3)"
        )
        .watermark("happened", f"happened - INTERVAL '0.{WAIT_MS:03d}' SECOND")
        .build()
    )
    java_tables.createTemporaryView("lines", lines, schema)
    tables.execute_sql(
        f"""
        CREATE TEMPORARY VIEW ticks AS
        SELECT *, MOD(ts, {wire.SECOND_NS}) * {PRICE} + price AS place FROM (
          SELECT happened, CAST(SPLIT_INDEX(f0, ',', 0) AS BIGINT) AS ts,
            SPLIT_INDEX(f0, ',', 1) AS symbol,
            CAST(SPLIT_INDEX(f0, ',', 2) AS BIGINT) AS price,
            CAST(SPLIT_INDEX(f0, ',', 3) AS BIGINT) AS size
          FROM lines)
        """
    )
    text = jvm.org.apache.flink.table.api.DataTypes.STRING()
    rows = java_tables.toDataStream(tables.sql_query(BARS)._j_table, text)
    strings = jvm.org.apache.flink.api.common.serialization.SimpleStringSchema()
    rows.writeToSocket("127.0.0.1", SPEC["results"], strings)
    java_env.execute("bars")


if __name__ == "__main__":
    main()
