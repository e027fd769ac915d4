"""One peer in one process: what the runner starts and measures.

`worker.py JSON` does one action (idle, trial, query, load, floats) and prints one line of JSON.
Only the calls themselves are timed: the library is imported and the connection open before.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engines import Data, Peer, peer_class
from queries import ALL


def timed_calls(form: Callable[[], Any], calls: int) -> tuple[list[dict[str, float]], Any]:
    """Runs one form of a query `calls` times: what each call took, and the last result."""
    taken, result = [], None
    for _ in range(calls):
        # The result before is let go first, so that two are never held at once.
        result = None
        cpu, began = time.process_time(), time.perf_counter()
        result = form()
        taken.append({"seconds": time.perf_counter() - began, "cpu_s": time.process_time() - cpu})
    return taken, result


def trial(peer: Peer, spec: dict[str, Any]) -> dict[str, Any]:
    """Every form of a query, one after the other; answers go to files, errors do not stop it."""
    # Not imported by the processes that are measured: they hold what the engine needs, no more.
    import check

    query = ALL[spec["query"]]
    found: dict[str, Any] = {}
    for number, (name, form) in enumerate(peer.forms(query, spec["layout"]).items()):
        try:
            calls, result = timed_calls(form, spec["calls"])
            found[name] = {"calls": calls, "answer": None}
            if result is not None:
                path = f"{spec['answers']}-{number}.parquet"
                check.write_answer(check.canonical(result, query), Path(path))
                found[name]["answer"] = path
        except Exception as error:  # noqa: BLE001 - whatever an engine raises is its result
            lines = str(error).strip().splitlines() or [""]
            found[name] = {"error": f"{type(error).__name__}: {lines[0]}"}
    return {"forms": found}


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
        case "idle":
            pass
        case "trial":
            outcome |= trial(peer, spec)
        case "load":
            began = time.perf_counter()
            peer.load()
            outcome["seconds"] = time.perf_counter() - began
        case "query":
            form = peer.forms(ALL[spec["query"]], spec["layout"])[spec["form"]]
            outcome["calls"], _ = timed_calls(form, spec["calls"])
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
