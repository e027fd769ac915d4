"""A client of isotick/1 in Python: publishes a few record batches, then reads windows as Arrow.

    pip install pyarrow aioquic grpcio-tools
    python -m grpc_tools.protoc -I ingest/wire --python_out=. isotick.proto     # isotick_pb2.py
    PYTHONPATH=. python ingest/wire/examples/client.py 127.0.0.1:7400 trades bars_1s

The stream has a time `ts`, a key `symbol` and columns `price` and `size`. Loopback only: for other
addresses give QuicConfiguration the service's certificate (`cafile`) and verify it.
"""

import asyncio
import io
import ssl
import struct
import sys

import isotick_pb2 as isotick
import pyarrow
from aioquic.asyncio import connect
from aioquic.quic.configuration import QuicConfiguration

CONTROL, ARROW = 1, 4


def message(kind, payload):
    return struct.pack("<IB", len(payload), kind) + payload


async def read(reader):
    length, kind = struct.unpack("<IB", await reader.readexactly(5))
    return kind, await reader.readexactly(length)


async def answer(reader):
    """The next control message; why the service says no, as an exception."""
    kind, payload = await read(reader)
    assert kind == CONTROL, kind
    control = isotick.Control.FromString(payload)
    name = control.WhichOneof("message")
    if name in ("refusal", "goodbye"):
        raise RuntimeError(getattr(control, name).text)
    return name, getattr(control, name)


async def session(quic, **role):
    """A stream of its own, and the answer to its hello."""
    reader, writer = await quic.create_stream()
    hello = isotick.Control(hello=isotick.Hello(version=1, **role))
    writer.write(message(CONTROL, hello.SerializeToString()))
    return reader, writer, (await answer(reader))[1]


async def publish(quic, stream, batches):
    role = isotick.Publish(stream=stream, publisher="python")
    reader, writer, reply = await session(quic, publish=role)
    row = reply.next_sequence  # what this publisher sent before counts once: go on behind it
    for batch in batches:
        numbers = pyarrow.array(range(row, row + batch.num_rows), pyarrow.uint64())
        batch = batch.append_column("sequence", numbers)
        row += batch.num_rows
        sink = io.BytesIO()
        with pyarrow.ipc.new_stream(sink, batch.schema) as out:
            out.write_batch(batch)
        writer.write(message(ARROW, sink.getvalue()))  # at most 1 MiB and 65,536 rows
    finish = isotick.Control(finish=isotick.Finish())
    writer.write(message(CONTROL, finish.SerializeToString()))
    writer.write_eof()
    while True:
        name, found = await answer(reader)
        if name == "finish_reply":
            return found.ack


async def windows(quic, view, idle_s):
    """Tables of windows from the first one kept on, until none came for a while."""
    role = isotick.Subscribe(view=view, cursor=0, format=isotick.FORMAT_ARROW)
    reader, _, _ = await session(quic, subscribe=role)
    while True:
        try:
            kind, payload = await asyncio.wait_for(read(reader), idle_s)
        except asyncio.TimeoutError:
            return
        assert kind == ARROW, isotick.Control.FromString(payload)
        # The cursor to resume at, if the connection breaks now.
        (next_cursor,) = struct.unpack_from("<Q", payload)
        yield next_cursor, pyarrow.ipc.open_stream(payload[8:]).read_all()


def ticks(first, rows):
    start = 1_704_205_800_000_000_000
    times = [start + row * 10_000_000 for row in range(first, first + rows)]
    return pyarrow.record_batch(
        {
            "ts": pyarrow.array(times, pyarrow.timestamp("ns", "UTC")),
            "symbol": pyarrow.array(["AB"[row % 2] for row in range(rows)]).dictionary_encode(),
            "price": pyarrow.array([100.25 + row % 4 for row in range(rows)]),
            "size": pyarrow.array(range(rows), pyarrow.int32()),
        }
    )


async def main(address, stream, view):
    host, port = address.rsplit(":", 1)
    quic = QuicConfiguration(alpn_protocols=["isotick/1"], verify_mode=ssl.CERT_NONE)
    async with connect(host, int(port), configuration=quic) as connection:
        ack = await publish(connection, stream, [ticks(0, 5_000), ticks(5_000, 5_000)])
        print(f"accepted {ack.accepted}, duplicate {ack.duplicate}, durable {ack.durable_through}")
        async for cursor, table in windows(connection, view, 2):
            print(f"{table.num_rows} windows up to cursor {cursor}; the last one:")
            print(table.slice(table.num_rows - 1).to_pylist()[0])


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
