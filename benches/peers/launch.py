"""Runs one command and prints what it used, as JSON.

A process of its own between the runner and the command: on Linux a child's peak memory starts at
its parent's, and this one holds next to nothing.
"""

import json
import os
import signal
import subprocess
import sys
import time


def main() -> int:
    """`launch.py JSON` with `argv`, `env`, `cores` (or null), `stdout`, `stderr`, `timeout_s`."""
    spec = json.loads(sys.argv[1])
    if spec["cores"] is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, spec["cores"])
    with open(spec["stdout"], "wb") as out, open(spec["stderr"], "wb") as err:
        began = time.perf_counter()
        child = subprocess.Popen(spec["argv"], stdout=out, stderr=err, env={**os.environ, **spec["env"]})
        timed_out = []

        def stop(*_: object) -> None:
            timed_out.append(True)
            os.kill(child.pid, signal.SIGKILL)

        signal.signal(signal.SIGALRM, stop)
        signal.alarm(spec["timeout_s"])
        _, status, usage = os.wait4(child.pid, 0)
        signal.alarm(0)
        wall_s = time.perf_counter() - began
    unit = 1 if sys.platform == "darwin" else 1024
    used = {
        "exit": os.waitstatus_to_exitcode(status),
        "timed_out": bool(timed_out),
        "wall_s": wall_s,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "peak_bytes": usage.ru_maxrss * unit,
        "read_bytes": usage.ru_inblock * 512,
    }
    print(json.dumps(used))
    return 0


if __name__ == "__main__":
    sys.exit(main())
