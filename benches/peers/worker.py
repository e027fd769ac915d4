"""One peer, one query, one process: what the runner starts and measures.

`worker.py JSON` prints one line of JSON. Only the calls themselves are timed: the library is
imported and the connection open before.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from engines import Data, Peer, peer_class
from queries import ALL


def timed_calls(peer: Peer, spec: dict[str, Any]) -> dict[str, Any]:
    """Runs one form of a query `calls` times; the last result is written if a path is given."""
    form = peer.forms(ALL[spec["query"]], spec["layout"])[spec["form"]]
    calls, result = [], None
    for _ in range(spec["calls"]):
        # The result before is let go first, so that two are never held at once.
        result = None
        cpu, began = time.process_time(), time.perf_counter()
        result = form()
        calls.append({"seconds": time.perf_counter() - began, "cpu_s": time.process_time() - cpu})
    if spec.get("answer") and result is not None:
        from check import canonical, write_answer

        write_answer(canonical(result, ALL[spec["query"]]), Path(spec["answer"]))
    return {"calls": calls, "result_rows": None if result is None else result.num_rows}


def float_runs(peer: Peer, spec: dict[str, Any]) -> dict[str, Any]:
    """VWAP as a quotient of double sums, `runs` times: the bits by run and symbol."""
    import numpy as np
    import pyarrow as pa

    query = peer.vwap()
    bits = []
    for _ in range(spec["runs"]):
        table = query()
        table = table.set_column(0, "symbol", table.column(0).cast(pa.string())).sort_by("symbol")
        bits.append(table.column("vwap").to_numpy().astype(np.float64).view(np.uint64))
    np.save(spec["answer"], np.stack(bits))
    return {"symbols": len(bits[0])}


def main() -> int:
    """Does what the JSON on the command line says."""
    spec = json.loads(sys.argv[1])
    data = Data(
        rows=spec["rows"],
        interleaved=Path(spec["interleaved"]),
        sorted=Path(spec["sorted"]),
        stores=Path(spec["stores"]),
    )
    began = time.perf_counter()
    peer = peer_class(spec["engine"])(data, spec["threads"], spec["layout"])
    outcome: dict[str, Any] = {"open_s": time.perf_counter() - began}
    match spec["action"]:
        case "forms":
            outcome["forms"] = list(peer.forms(ALL[spec["query"]], spec["layout"]))
        case "load":
            began = time.perf_counter()
            peer.load()
            outcome["seconds"] = time.perf_counter() - began
        case "query":
            outcome |= timed_calls(peer, spec)
        case "floats":
            outcome |= float_runs(peer, spec)
    print(json.dumps(outcome), flush=True)
    return 0


if __name__ == "__main__":
    # Engines that hang or crash while the interpreter goes down have answered already; stores
    # are closed first.
    code = main()
    sys.stdout.flush()
    if json.loads(sys.argv[1])["action"] == "load":
        sys.exit(code)
    os._exit(code)
