"""One command run and measured from outside, on stated cores, with a cold or a warm page cache."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


class Failed(Exception):
    """A measured command that did not end well; the message is its last line."""


@dataclass(frozen=True)
class Usage:
    """What a command used, start of the process to its end."""

    wall_s: float
    cpu_s: float
    peak_bytes: int
    #: Read from the disk, not from the page cache.
    read_bytes: int
    stdout: str
    stderr: str

    def json_line(self, text: str) -> dict[str, Any]:
        """The last line of `text` that is a JSON object."""
        for line in reversed(text.splitlines()):
            if line.startswith("{"):
                return json.loads(line)
        raise Failed(f"no JSON in: {text.strip()[-200:]}")


class Runner:
    """Starts commands one after the other on the same cores."""

    def __init__(self, threads: int, scratch: Path, timeout_s: int) -> None:
        self.threads = threads
        self.scratch = scratch
        self.timeout_s = timeout_s
        scratch.mkdir(parents=True, exist_ok=True)
        available = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        #: The cores of every command; `None` where the system cannot pin or has too few.
        self.cores = available[:threads] if len(available) >= threads else None

    def run(self, argv: list[str], threads: int | None = None) -> Usage:
        """Runs a command to its end. With `threads` it is not pinned: they may exceed the cores."""
        out, err = self.scratch / "stdout", self.scratch / "stderr"
        number = str(self.threads if threads is None else threads)
        # Pools that are sized by the environment get the same number as those sized by settings.
        env = {"POLARS_MAX_THREADS": number, "OMP_NUM_THREADS": number, "PYTHONDONTWRITEBYTECODE": "1"}
        spec = {
            "argv": argv,
            "env": env,
            "cores": self.cores if threads is None else None,
            "stdout": str(out),
            "stderr": str(err),
            "timeout_s": self.timeout_s,
        }
        launch = [sys.executable, "-S", str(HERE / "launch.py"), json.dumps(spec)]
        done = subprocess.run(launch, capture_output=True, text=True, check=True)
        used = json.loads(done.stdout)
        stdout, stderr = (path.read_text(errors="replace") for path in (out, err))
        if used["exit"] != 0:
            lines = [line for line in stderr.splitlines() if line.strip()] or ["nothing on standard error"]
            ended = f"over {self.timeout_s} s" if used["timed_out"] else f"exit {used['exit']}"
            raise Failed(f"{ended}: {lines[-1][:300]}")
        return Usage(used["wall_s"], used["cpu_s"], used["peak_bytes"], used["read_bytes"], stdout, stderr)

    def worker(self, spec: dict[str, Any], threads: int | None = None) -> tuple[Usage, dict[str, Any]]:
        """Runs `worker.py` with a specification; what it printed comes along."""
        spec = {**spec, "threads": self.threads if threads is None else threads}
        usage = self.run([sys.executable, str(HERE / "worker.py"), json.dumps(spec)], threads)
        return usage, usage.json_line(usage.stdout)


def drop_cache(files: list[Path]) -> None:
    """Writes the files' pages back and lets the page cache forget them."""
    for path in files:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)
