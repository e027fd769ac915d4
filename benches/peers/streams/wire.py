"""What an engine's process shares with the benchmark: two connections and the form of a line.

Standard library only: it runs in every engine's own environment.

The process gets `{"source": port, "results": port, "allowed_ns": …, "threads": …}` as its argument.
It connects to both ports on 127.0.0.1, reads ticks, one `ts,symbol,price,size` a line, and writes
windows, one `symbol,start,open,high,low,close,volume,notional,ticks` a line, integers all.
"""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterable, Iterator
from typing import Any

SECOND_NS = 1_000_000_000
READ_BYTES = 1 << 16


def spec() -> dict[str, Any]:
    """What this process is told."""
    return json.loads(sys.argv[1])


def connect(port: int) -> socket.socket:
    """One of the two connections."""
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def blocks(source: socket.socket) -> Iterator[bytes]:
    """Whole lines as they come, until the other side has no more."""
    rest = b""
    while block := source.recv(READ_BYTES):
        whole, newline, rest_of_block = block.rpartition(b"\n")
        if newline:
            yield rest + whole + newline
            rest = rest_of_block
        else:
            rest += block
    if rest:
        yield rest


class Results:
    """Where windows go."""

    def __init__(self, port: int) -> None:
        self.connection = connect(port)

    def send(self, rows: Iterable[tuple]) -> None:
        """Writes windows."""
        text = "".join([",".join(map(str, row)) + "\n" for row in rows])
        if text:
            self.connection.sendall(text.encode())

    def close(self) -> None:
        """No more windows."""
        self.connection.close()
