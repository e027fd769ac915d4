#!/usr/bin/env python3
"""Isotick and stream processors on the same ticks as they come; see README.md."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.dont_write_bytecode = True

import bootstrap  # noqa: E402
from run import count, names  # noqa: E402

ENVIRONMENT = ("live-base", bootstrap.HERE / "streams" / "requirements" / "base.txt")


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--ticks", type=count, default=1_000_000, help="flat out, for slow engines a fifth [default: 1m]"
    )
    parser.add_argument("--engines", type=names, default=None, help="such as isotick,python [default: all]")
    parser.add_argument("--repeat", type=int, default=3, help="rounds flat out; 0 for none [default: 3]")
    parser.add_argument(
        "--rates",
        type=lambda text: [count(rate) for rate in names(text)],
        default=[10_000, 100_000],
        help="ticks a second of the paced runs; '' for none [default: 10k,100k]",
    )
    parser.add_argument("--seconds", type=int, default=12, help="of a paced run [default: 12]")
    parser.add_argument("--warm-seconds", type=int, default=2, help="not timed of them [default: 2]")
    parser.add_argument("--step-us", type=int, default=1_000, help="ticks due within so long go together [default: 1000]")
    parser.add_argument("--threads", type=int, default=2, help="cores of everything [default: 2]")
    parser.add_argument("--seed", type=int, default=1, help="of the ticks [default: 1]")
    parser.add_argument("--patience", type=float, default=30, help="seconds without a window [default: 30]")
    parser.add_argument("--isotick", type=Path, default=None, help="a binary to use instead of building one")
    parser.add_argument("--note", default="", help="a line for the report, such as what else ran")
    parser.add_argument("--markdown", type=Path, default=None, help="write the report to this file")
    parser.add_argument("--json", type=Path, default=None, help="write every figure to this file")
    return parser.parse_args(argv)


def main() -> int:
    """Exit code 0: Isotick and the plain loop are right; 1: they are not; 2: a bad request."""
    args = arguments()
    bootstrap.enter(Path(__file__).resolve(), *ENVIRONMENT)
    from streams import contest, report

    try:
        found = contest.run(args)
    except contest.BadRequest as error:
        print(f"live.py: {error}", file=sys.stderr)
        return 2
    text = report.markdown(found)
    print(text)
    if args.markdown is not None:
        args.markdown.write_text(text)
    if args.json is not None:
        args.json.write_text(json.dumps(report.as_json(found), indent=1) + "\n")
    return 0 if found.trusted() else 1


if __name__ == "__main__":
    sys.exit(main())
