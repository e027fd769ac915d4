"""The engines' own stores: built once per data set and version, the time kept beside them."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from engines import ISOTICK, Data
from engines.isotick import Isotick
from measure import Runner


@dataclass(frozen=True)
class Loaded:
    """What building a store took, and its size."""

    identity: str
    seconds: float
    cpu_s: float
    peak_bytes: int
    store_bytes: int
    #: The steps and their seconds.
    steps: dict[str, float]


def _identity(engine: str, isotick: Isotick) -> str:
    if engine == ISOTICK:
        return hashlib.sha256(isotick.binary.read_bytes()).hexdigest()
    return version(engine)


def load(engine: str, data: Data, runner: Runner, isotick: Isotick, worker_spec: dict[str, Any]) -> Loaded:
    """Builds an engine's store, unless the same version has built it before."""
    marker = data.stores / f"{engine}.json"
    identity = _identity(engine, isotick)
    try:
        known = Loaded(**json.loads(marker.read_text()))
        if known.identity == identity and data.store(engine).is_dir():
            return known
    except (OSError, ValueError, TypeError):
        pass
    marker.unlink(missing_ok=True)
    shutil.rmtree(data.store(engine), ignore_errors=True)
    steps: dict[str, float] = {}
    cpu_s, peak = 0.0, 0
    if engine == ISOTICK:
        data.stores.mkdir(parents=True, exist_ok=True)
        for argv in isotick.load(data):
            usage = runner.run(argv)
            steps[argv[1]] = usage.wall_s
            cpu_s, peak = cpu_s + usage.cpu_s, max(peak, usage.peak_bytes)
    else:
        data.store(engine).mkdir(parents=True)
        usage, outcome = runner.worker({**worker_spec, "engine": engine, "action": "load", "layout": None})
        steps["load"] = outcome["seconds"]
        cpu_s, peak = usage.cpu_s, usage.peak_bytes
    size = sum(_bytes(path) for path in data.files(engine, "own"))
    loaded = Loaded(identity, sum(steps.values()), cpu_s, peak, size, steps)
    marker.write_text(json.dumps(asdict(loaded), indent=2) + "\n")
    return loaded


def _bytes(path: Path) -> int:
    # Blocks, not lengths: some stores make files with holes.
    stat = path.stat()
    return min(stat.st_size, stat.st_blocks * 512)
