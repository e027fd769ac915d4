"""The engines by name, and what the runner asks of a peer.

Nothing here imports an engine's library: that happens in the process that measures it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from queries import Query

PEERS = ("duckdb", "polars", "datafusion", "chdb")
#: Decodes the columns a query needs and does nothing with them.
FLOOR = "pyarrow"
ISOTICK = "isotick"

INTERLEAVED = "interleaved"
SORTED = "sorted"
OWN = "own"
#: Its own store with the exact states of views beside the ticks.
STATES = "states"


@dataclass(frozen=True)
class Data:
    """Where the ticks lie, and how many they are."""

    rows: int
    interleaved: Path
    sorted: Path
    #: The folder for engines' own stores; each takes a folder of its own name.
    stores: Path

    def files(self, engine: str, layout: str) -> list[Path]:
        """The files an engine reads in a layout."""
        match layout:
            case "interleaved":
                return [self.interleaved]
            case "sorted":
                return [self.sorted]
            case _:
                return [path for path in self.store(engine).rglob("*") if path.is_file()]

    def store(self, engine: str) -> Path:
        """The folder of an engine's own store."""
        return self.stores / engine


class Peer(Protocol):
    """One engine in one process, with a connection open and its threads set."""

    def __init__(self, data: Data, threads: int, layout: str | None) -> None: ...

    def load(self) -> None:
        """Builds its own store from the interleaved file."""

    def forms(self, query: Query, layout: str) -> dict[str, Callable[[], Any]]:
        """Ways to compute a query, each giving a materialised pyarrow table."""

    def vwap(self) -> Callable[[], Any]:
        """VWAP per symbol over everything as a quotient of double sums: (symbol, vwap)."""


def peer_class(name: str) -> type[Peer]:
    """The class of a peer; imports its library."""
    return importlib.import_module(f"engines.{name}_peer").Engine


#: The layouts in which each can be asked.
LAYOUTS = {
    "duckdb": (INTERLEAVED, SORTED, OWN),
    "polars": (INTERLEAVED, SORTED, OWN),
    "datafusion": (INTERLEAVED, SORTED),
    "chdb": (INTERLEAVED, SORTED, OWN),
    FLOOR: (INTERLEAVED, SORTED),
    ISOTICK: (INTERLEAVED, OWN, STATES),
}
