#!/usr/bin/env python3
"""Isotick and its peers on the same ticks, cores and questions; see README.md."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

# The sources' folder stays as it was cloned; set before the first import of one of them.
sys.dont_write_bytecode = True

import bootstrap  # noqa: E402

UNITS = {"k": 1_000, "m": 1_000_000, "g": 1_000_000_000}


def count(text: str) -> int:
    """`20m` as a number."""
    unit = UNITS.get(text[-1:].lower())
    return int(text) if unit is None else int(float(text[:-1]) * unit)


def names(text: str) -> list[str]:
    """`a,b` as a list."""
    return [name.strip() for name in text.split(",") if name.strip()]


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--rows", type=count, default=20_000_000, help="ticks, such as 200k or 20m [default: 20m]"
    )
    parser.add_argument("--queries", type=names, default=None, help="such as q1,q4 [default: all]")
    parser.add_argument("--engines", type=names, default=None, help="such as isotick,duckdb [default: all]")
    parser.add_argument(
        "--modes",
        type=names,
        default=["in-place", "best"],
        help="in-place, best, and states: isotick from states kept before [default: in-place,best]",
    )
    parser.add_argument(
        "--threads", type=int, default=2, help="threads and cores of every engine [default: 2]"
    )
    parser.add_argument(
        "--repeat", type=int, default=5, help="measured rounds; 0 only checks the answers [default: 5]"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the ticks [default: 1]")
    parser.add_argument("--no-cold", action="store_true", help="leave out the runs with a cold page cache")
    parser.add_argument("--no-floats", action="store_true", help="leave out the double sums")
    parser.add_argument("--timeout", type=int, default=900, help="seconds for one process [default: 900]")
    parser.add_argument("--isotick", type=Path, default=None, help="a binary to use instead of building one")
    parser.add_argument("--markdown", type=Path, default=None, help="write the report to this file")
    parser.add_argument("--json", type=Path, default=None, help="write every sample to this file")
    return parser.parse_args()


def main() -> int:
    """Exit code 0: all answers are right; 1: an engine failed or was wrong; 2: a bad request."""
    args = arguments()
    bootstrap.enter(Path(__file__).resolve())
    # From here on the environment with numpy, pyarrow and the peers runs.
    import benchmark

    try:
        report = benchmark.run(args)
    except benchmark.BadRequest as error:
        print(f"run.py: {error}", file=sys.stderr)
        return 2
    import report as reporting

    text = reporting.markdown(report)
    print(text)
    if args.markdown is not None:
        args.markdown.write_text(text)
    if args.json is not None:
        args.json.write_text(json.dumps(reporting.as_json(report), indent=1) + "\n")
    wrong = any("WRONG" in finding for finding in report.contest.findings)
    failed = any(one.out is not None for one in report.contest.contestants)
    return 1 if wrong or failed else 0


if __name__ == "__main__":
    sys.exit(main())
