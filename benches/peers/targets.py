"""What is to be reached, and whether it was."""

from __future__ import annotations

from dataclasses import dataclass

from contest import BEST, IN_PLACE, STORED_STATES, Contest, Contestant
from engines import FLOOR, INTERLEAVED, ISOTICK, PEERS

#: Ratios to the fastest peer by mode and query: at least, and the aim where there is a greater one.
RATIOS: dict[tuple[str, str], tuple[float, float]] = {
    (IN_PLACE, "q1"): (2.0, 2.5),
    (IN_PLACE, "q2"): (1.2, 2.0),
    (IN_PLACE, "q7"): (1.2, 2.0),
    (IN_PLACE, "q3"): (1.2, 2.0),
    (IN_PLACE, "q4"): (4.0, 4.0),
    (BEST, "q1"): (2.5, 4.0),
    (BEST, "q2"): (1.5, 3.0),
    (BEST, "q7"): (1.5, 3.0),
    (BEST, "q3"): (3.0, 3.0),
    (BEST, "q4"): (4.0, 10.0),
}
#: A scan's time over the time of decoding its columns: at most, and the aim.
DECODE = (1.3, 1.1)


@dataclass(frozen=True)
class Verdict:
    """One line of the table of targets."""

    mode: str
    query: str
    what: str
    reached: str
    asked: str
    verdict: str


def seconds_of(one: Contestant) -> float | None:
    """The warm median that ratios are made of."""
    return one.median("query_s")


def fastest_peer(finalists: list[Contestant]) -> Contestant | None:
    """The peer with the least warm median."""
    peers = [one for one in finalists if one.engine in PEERS and seconds_of(one)]
    return min(peers, key=seconds_of, default=None)


def isotick_of(finalists: list[Contestant]) -> Contestant | None:
    """Isotick among the finalists, if it was measured."""
    return next((one for one in finalists if one.engine == ISOTICK and seconds_of(one)), None)


def verdicts(contest: Contest) -> list[Verdict]:
    """All targets that the measured contestants allow to judge."""
    found = []
    for query, mode in dict.fromkeys((one.query.name, one.mode) for one in contest.contestants):
        finalists = contest.finalists(query, mode)
        # What was reduced before is no scan of ticks: nothing is asked of it here.
        if not finalists or mode == STORED_STATES:
            continue
        own, peer = isotick_of(finalists), fastest_peer(finalists)
        if own is None:
            asked = (query, mode, ISOTICK)
            others = (one for one in contest.contestants if (one.query.name, one.mode, one.engine) == asked)
            why = contest.skipped.get(query) or next((one.out for one in others), "isotick was not asked")
            found.append(Verdict(mode, query, "speed", "-", "-", f"not measured: {why}"))
            continue
        if peer is not None:
            found += [_speed(mode, query, own, peer), _memory(mode, query, own, finalists)]
        floors = [one for one in finalists if one.engine == FLOOR and one.layout == INTERLEAVED]
        if own.layout == INTERLEAVED and floors and seconds_of(floors[0]):
            found.append(_decode(mode, query, own, floors[0]))
    return found


def _speed(mode: str, query: str, own: Contestant, peer: Contestant) -> Verdict:
    ratio = seconds_of(peer) / seconds_of(own)
    least, aim = RATIOS[(mode, query)]
    reached = f"{ratio:.2f}x ({peer.engine}, {peer.layout})"
    asked = f">= {least:g}x" + (f", aim {aim:g}x" if aim > least else "")
    if ratio < 1:
        verdict = "LOSES"
    elif ratio < least:
        verdict = "NOT met"
    else:
        verdict = "met, aim too" if ratio >= aim else "met"
    return Verdict(mode, query, "speed against the fastest peer", reached, asked, verdict)


def _memory(mode: str, query: str, own: Contestant, finalists: list[Contestant]) -> Verdict:
    least = min(
        (one for one in finalists if one.engine in PEERS and one.peak_bytes()), key=Contestant.peak_bytes
    )
    reached = f"{own.peak_bytes() / 1e6:.0f} MB against {least.peak_bytes() / 1e6:.0f} MB ({least.engine})"
    met = own.peak_bytes() < least.peak_bytes()
    return Verdict(
        mode, query, "peak memory", reached, "below the smallest peer's", "met" if met else "NOT met"
    )


def _decode(mode: str, query: str, own: Contestant, floor: Contestant) -> Verdict:
    ratio = seconds_of(own) / seconds_of(floor)
    limit, aim = DECODE
    verdict = "NOT met" if ratio > limit else "met, aim too" if ratio <= aim else "met"
    what = "time over decoding the same columns (pyarrow)"
    return Verdict(mode, query, what, f"{ratio:.2f}x", f"<= {limit:g}x, aim {aim:g}x", verdict)
