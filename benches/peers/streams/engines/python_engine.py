"""The floor: a plain loop over lines into a dictionary; what a careful afternoon gives."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import wire  # noqa: E402


def main() -> None:
    """Windows of a symbol are lists: start, first and last time, and what is asked."""
    spec = wire.spec()
    source, results = wire.connect(spec["source"]), wire.Results(spec["results"])
    width, allowed = wire.SECOND_NS, spec["allowed_ns"]
    by_window: dict[int, dict[bytes, list[int]]] = {}
    watermark = closes = 0
    for block in wire.blocks(source):
        for line in block.splitlines():
            when, symbol, price, size = line.split(b",")
            ts, price, size = int(when), int(price), int(size)
            start = ts - ts % width
            window = by_window.get(start)
            if window is None:
                window = by_window[start] = {}
                closes = min(by_window) + width + allowed
            bar = window.get(symbol)
            if bar is None:
                window[symbol] = [ts, ts, price, price, price, price, size, price * size, 1]
            else:
                if ts < bar[0]:
                    bar[0], bar[2] = ts, price
                if ts > bar[1]:
                    bar[1], bar[5] = ts, price
                if price > bar[3]:
                    bar[3] = price
                if price < bar[4]:
                    bar[4] = price
                bar[6] += size
                bar[7] += price * size
                bar[8] += 1
            if ts > watermark:
                watermark = ts
                while closes <= watermark:
                    start = closes - allowed - width
                    window = by_window.pop(start)
                    results.send((key.decode(), start, *bar[2:]) for key, bar in window.items())
                    closes = min(by_window, default=1 << 62) + width + allowed
    results.close()


if __name__ == "__main__":
    main()
