"""One engine, one stream: starts it, feeds it, and notes when its windows come."""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from streams.load import ALLOWED_NS, Load, Row

HERE = Path(__file__).resolve().parent
START_WITHIN_S = 120
CHUNK_BYTES = 1 << 16
#: From when everything is connected to when the first tick is due.
LEAD_S = 0.2


class Failed(Exception):
    """An engine that did not do it; the message says why."""


@dataclass
class Run:
    """What came of one stream."""

    #: Windows in the order in which they came; of several versions all.
    rows: list[Row] = field(default_factory=list)
    #: When each came, in nanoseconds since the first tick was due, or was sent.
    received_ns: list[int] = field(default_factory=list)
    #: When the measured part of the ticks began, flat out.
    from_ns: int = 0
    #: Ticks of that part.
    ticks: int = 0
    #: Of the engine's processes, warm-up and start included; of Isotick both sides.
    cpu_s: float | None = None
    #: Windows that came only after the stream's end was told.
    after_end: int = 0
    #: How much later than due the ticks were sent, in nanoseconds: median and greatest.
    sent_late_ns: tuple[int, int] = (0, 0)
    #: What else there is to say.
    notes: dict[str, float | str] = field(default_factory=dict)


class Process:
    """An engine's process and its two connections."""

    def __init__(self, name: str, python: Path, cores: list[int] | None, scratch: Path) -> None:
        self.log = scratch / f"{name}.log"
        listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
        spec = {"source": listeners[0].getsockname()[1], "results": listeners[1].getsockname()[1]}
        spec |= {"allowed_ns": ALLOWED_NS, "threads": len(cores) if cores else os.cpu_count()}
        spec["scratch"] = str(scratch)
        script = HERE / "engines" / f"{name}_engine.py"
        env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        with self.log.open("wb") as log:
            self.child = subprocess.Popen(
                [str(python), "-B", str(script), json.dumps(spec)],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=scratch,
                env=env,
                start_new_session=True,
                preexec_fn=(lambda: os.sched_setaffinity(0, cores)) if cores else None,
            )
        try:
            self.source, self.results = (self._accept(listener) for listener in listeners)
        except Failed:
            self.stop()
            raise
        self.source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _accept(self, listener: socket.socket) -> socket.socket:
        until = time.monotonic() + START_WITHIN_S
        with listener:
            listener.settimeout(0.2)
            while time.monotonic() < until:
                try:
                    return listener.accept()[0]
                except TimeoutError:
                    if self.child.poll() is not None:
                        raise Failed(f"it ended at its start: {self.last_words()}") from None
        raise Failed(f"it did not connect within {START_WITHIN_S} s: {self.last_words()}")

    def last_words(self) -> str:
        """The last line it said."""
        lines = [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        return lines[-1][:300] if lines else "it said nothing"

    def cpu_s(self) -> float | None:
        """Processor seconds of all its processes, which are those of its session."""
        total, hertz = 0.0, os.sysconf("SC_CLK_TCK")
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == self.child.pid:
                total += (int(fields[11]) + int(fields[12])) / hertz
        return total or None

    def stop(self) -> None:
        """Ends it and what it started: its own session, and nothing else."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.child.pid, number)
                self.child.wait(timeout=3)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue
        self.child.wait()


class Sender(threading.Thread):
    """Sends text flat out or on schedule; sleeps and sends without Python's lock."""

    def __init__(self, connection: socket.socket, load: Load, rows: range, step_ns: int | None) -> None:
        super().__init__(daemon=True)
        self.connection = connection
        text, ends = load.lines()
        self.view = memoryview(text)
        self.load, self.rows, self.step_ns = load, rows, step_ns
        self.ends = np.concatenate(([0], ends))
        self.began_ns = 0
        self.late_ns: list[int] = []
        self.error: OSError | None = None

    def run(self) -> None:
        try:
            if self.step_ns is None:
                self.began_ns = time.monotonic_ns()
                first, last = int(self.ends[self.rows.start]), int(self.ends[self.rows.stop])
                for at in range(first, last, CHUNK_BYTES):
                    self.connection.sendall(self.view[at : min(at + CHUNK_BYTES, last)])
            else:
                self._paced()
        except OSError as error:
            self.error = error

    def _paced(self) -> None:
        """Ticks that are due within the same step go together when the last of them is due."""
        due = self.load.due_ns(np.arange(self.load.rows, dtype=np.int64))
        group = -(-due // self.step_ns)
        cuts = np.append(np.flatnonzero(np.diff(group)) + 1, due.size)
        whens, ends = due[cuts - 1].tolist(), self.ends[cuts].tolist()
        self.began_ns = time.monotonic_ns() + int(LEAD_S * 1e9)
        at = 0
        for when, end in zip(whens, ends, strict=True):
            wait = self.began_ns + when - time.monotonic_ns()
            if wait > 0:
                time.sleep(wait / 1e9)
            self.late_ns.append(time.monotonic_ns() - self.began_ns - when)
            self.connection.sendall(self.view[at:end])
            at = end


class Receiver:
    """Reads windows; the main thread's part."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.blocks: list[tuple[int, bytes]] = []
        self.lines = 0
        self.ended = False
        self.selector = selectors.DefaultSelector()
        self.selector.register(connection, selectors.EVENT_READ)

    def read(self, timeout_s: float) -> bool:
        """Takes what comes next; `False` when nothing did."""
        if self.ended or not self.selector.select(timeout_s):
            return False
        block = self.connection.recv(1 << 18)
        now = time.monotonic_ns()
        if not block:
            self.ended = True
            return False
        self.blocks.append((now, block))
        self.lines += block.count(b"\n")
        return True

    def until(self, lines: int, patience_s: float, alive: threading.Thread | None = None) -> None:
        """Reads until so many windows have come, or none for a while."""
        quiet = time.monotonic()
        while self.lines < lines and not self.ended:
            if self.read(0.2) or (alive is not None and alive.is_alive()):
                quiet = time.monotonic()
            elif time.monotonic() - quiet > patience_s:
                return

    def rows(self) -> tuple[list[Row], list[int]]:
        """Windows and when each was whole."""
        rows: list[Row] = []
        times: list[int] = []
        rest = b""
        for now, block in self.blocks:
            *lines, rest = (rest + block).split(b"\n")
            for line in lines:
                symbol, *numbers = line.split(b",")
                rows.append((symbol.decode().strip('"'), *map(int, numbers)))
                times.append(now)
        return rows, times


def run(
    name: str,
    python: Path,
    load: Load,
    rate: int | None,
    step_ns: int,
    warm: float,
    cores: list[int] | None,
    scratch: Path,
    patience_s: float,
) -> Run:
    """Feeds one stream to one engine.

    Flat out the first `warm` part of the ticks is sent apart, and what it closes is waited for,
    before the clock starts: whoever compiles while it runs has done so by then.
    """
    expected = load.answer()
    process = Process(name, python, cores, scratch)
    try:
        receiver = Receiver(process.results)
        first = 0
        if rate is None and warm > 0:
            first = int(load.rows * warm)
            peak = int(load.ts[:first].max())
            closed = sum(start + 1_000_000_000 + ALLOWED_NS <= peak for _, start in expected)
            sender = Sender(process.source, load, range(0, first), None)
            sender.start()
            # An engine may hold its last windows back until more ticks come.
            receiver.until(closed, min(2.0, patience_s), sender)
            sender.join()
        sender = Sender(process.source, load, range(first, load.rows), None if rate is None else step_ns)
        sender.start()
        if rate is None:
            while sender.is_alive():
                receiver.read(0.02)
        else:
            receiver.until(len(expected), 2.0, sender)
        sender.join()
        before_end = receiver.lines
        try:
            process.source.shutdown(socket.SHUT_WR)
        except OSError as error:
            raise Failed(f"it hung up: {process.last_words()}") from error
        receiver.until(len(expected), patience_s)
        # Versions beyond the expected windows would come now.
        while receiver.read(0.3):
            pass
        if sender.error is not None:
            raise Failed(f"{sender.error}: {process.last_words()}")
        rows, times = receiver.rows()
        if not rows:
            raise Failed(f"no window came: {process.last_words()}")
        late = sorted(sender.late_ns) or [0]
        return Run(
            rows=rows,
            received_ns=[now - sender.began_ns for now in times],
            ticks=load.rows - first,
            cpu_s=process.cpu_s(),
            after_end=0 if rate is None else len(rows) - before_end,
            sent_late_ns=(late[len(late) // 2], late[-1]),
        )
    finally:
        process.stop()
        for connection in (getattr(process, "source", None), getattr(process, "results", None)):
            if connection is not None:
                connection.close()


def run_isotick(
    binary: Path,
    load: Load,
    rate: int | None,
    step_ns: int,
    cores: list[int] | None,
    scratch: Path,
    timeout_s: float,
) -> Run:
    """`isotick bench live --file`: the same ticks, its own service, publisher and subscriber."""
    ticks, windows, figures = (scratch / f"isotick-{name}" for name in ("ticks.parquet", "rows.csv", "json"))
    load.write_parquet(ticks)
    argv = [str(binary), "bench", "live", "--file", str(ticks), "--step", f"{step_ns}ns", "--repeat", "1"]
    argv += ["--rate", "none"] if rate is None else ["--ticks", "0", "--rate", f"{rate}/s"]
    argv += ["-o", str(windows), "--json", str(figures), "--", "--engine", "cpu"]
    done = subprocess.run(
        argv,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
        preexec_fn=(lambda: os.sched_setaffinity(0, cores)) if cores else None,
    )
    if not windows.exists() or not figures.exists() or done.returncode not in (0, 1):
        lines = done.stderr.strip().splitlines() or [f"exit {done.returncode}"]
        raise Failed(lines[-1][:300])
    figure = json.loads(figures.read_text())["figures"][0]
    run = Run(ticks=load.rows)
    names = ("open", "high", "low", "close", "volume", "notional", "trades")
    with windows.open() as file:
        header = file.readline().strip().split(",")
        columns = [header.index(name) for name in names]
        start, received = header.index("window_start"), header.index("received_ns")
        for line in file:
            cells = line.strip().split(",")
            run.rows.append((cells[0], int(cells[start]), *(int(cells[column]) for column in columns)))
            run.received_ns.append(int(cells[received]))
    windows.unlink()
    figures.unlink()
    if figure["own_cpu_s"] is not None:
        run.cpu_s = figure["own_cpu_s"] + figure["service_cpu_s"]
        run.notes = {"publisher_subscriber_cpu_s": figure["own_cpu_s"], "service_cpu_s": figure["service_cpu_s"]}
    run.notes["bytes_per_tick"] = figure["bytes_per_tick"]
    run.notes["hash"] = figure["hash"]
    if figure["sent_late_ns"] is not None:
        run.sent_late_ns = (figure["sent_late_ns"]["p50"], figure["sent_late_ns"]["max"])
    return run


def version(python: Path, package: str) -> str:
    """A package's version in an environment."""
    code = f"import importlib.metadata as m; print(m.version({package!r}))"
    done = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def own_python() -> Path:
    """The benchmark's own interpreter."""
    return Path(sys.executable)
