"""What need not be kept any more. Whatever goes, the newest safe checkpoint and something newer stay."""

from __future__ import annotations

from typing import Dict, List, Tuple

from . import manifest
from .claims import Checkpoint, Claims, Standing


def kept(claims: Claims, keep: int, accept: str, is_tight: bool = False) -> Dict[str, str]:
    """The names of the checkpoints that stay, each with the reason: the newest `keep` (two at least),
    the best, the newest two that are safe, the newest of each level, and, unless room `is_tight`, all
    that are newer than the newest safe one."""
    newest = claims.newest_first()
    safe = [one for one in newest if one.is_safe(accept)]
    best = [one for one in newest if one.is_best]
    reasons = {one.name: "it is one of the newest" for one in newest[: max(keep, 2)]}
    for one in best[:1] + [one for one in best if one in safe][:1]:
        reasons.setdefault(one.name, "it is the best")
    for one in safe[:2]:
        reasons.setdefault(one.name, "it is one of the newest that are safe")
    for level in manifest.LEVELS:
        for one in [one for one in newest if one.level == level][:1]:
            reasons.setdefault(one.name, "it is the newest that is {}".format(level.upper()))
    for one in newest:
        if not is_tight and (not safe or one.order > safe[0].order):
            reasons.setdefault(one.name, "nothing as new is safe")
    return reasons


def removable(
    claims: Claims, store: str, keep: int, accept: str
) -> List[Tuple[Checkpoint, Standing]]:
    """What that store need not have, oldest first: nothing that stays, and none of the newest `keep`
    that it has whole."""
    stay = set(kept(claims, keep, accept))
    whole = [
        one
        for one in claims.newest_first()
        if one.level_in(store) in (manifest.PUBLISHED, manifest.CONFIRMED)
    ]
    stay.update(one.name for one in whole[: max(keep, 2)])
    found = []
    for one in reversed(claims.newest_first()):
        standing = one.current(store)
        # Without anything as new in this very store an unproven one may be all that it has.
        if standing and one.name not in stay and any(other.order > one.order for other in whole):
            found.append((one, standing))
    return found


def releasable(claims: Claims, keep: int, accept: str, is_tight: bool = False) -> List[Checkpoint]:
    """What need not be held on the runtime's disk, oldest first."""
    stay = kept(claims, keep, accept, is_tight)
    there = [one for one in claims.newest_first() if one.is_local and one.name not in stay]
    return there[::-1]
