"""What stands between a rented machine's end and its checkpoints: proof that each job's newest is safe.

The carriers do the work and write down what they proved. Nothing here touches a store, so no Drive that
hangs can hold it up.
"""

from __future__ import annotations

import time
from typing import Any, Dict, List, Set

from . import checkpoints, claims
from .carrier import ENDED

_POLL_S = 0.1
_LEAST_S = 1.0
"""Each job is asked, also when the ones before have used up the time."""
_NO_MORE = "more is proved only by a copy on a computer that connects"


def secure(timeout_s: float) -> List[str]:
    """Have the newest checkpoint of each job brought as far as its stores can prove. Returns, for each
    that is not as safe then as its job wants it, which it is and why."""
    deadline = time.monotonic() + timeout_s
    risks = []
    for told in filter(_may_change, _standings()):
        asked = {"job": told["job"], "timeout_s": max(deadline - time.monotonic(), _LEAST_S)}
        *_, (end, _body) = checkpoints.push(asked, b"")
        if not end["is_safe"] and (end["row"] or end["problem"]):
            risks.append(_describe(told, end["row"], end["problem"]))
    return risks


def risks() -> List[str]:
    """The same as far as it is known now; nobody is asked for anything."""
    return [
        _describe(told, told["newest"], checkpoints.explain(told["problems"]))
        for told in _standings()
        if not told["is_safe"]
    ]


def wait_for_carriers(timeout_s: float) -> None:
    """Until none has anything left to bring, or the time is over: what they bring besides is wanted,
    too, but the machine need not stay for it."""
    deadline = time.monotonic() + timeout_s
    while any(told["runs"] for told in _standings()) and time.monotonic() < deadline:
        time.sleep(_POLL_S)


def safe_sources() -> Set[str]:
    """Where trainers wrote what is safe, and what is older; not what was written there since."""
    safe: Set[str] = set()
    for files, run in checkpoints.carried():
        found = claims.read_claims(files.journal)
        newest_safe = found.safe(run.accept)
        if newest_safe is not None:
            every = found.checkpoints.values()
            safe.update(one.source for one in every if one.order <= newest_safe.order)
            safe.difference_update(one.source for one in every if one.order > newest_safe.order)
    return safe


def _standings() -> List[Dict[str, Any]]:
    return list(checkpoints.answer_list({}, b"")[0]["jobs"])


def _may_change(told: Dict[str, Any]) -> bool:
    """Its carrier may still find a newer one, or bring what it has further."""
    return bool(told["runs"]) or not told["is_safe"] or told["state"] != ENDED


def _describe(told: Dict[str, Any], newest: Any, problem: str) -> str:
    if newest is None:
        return "the newest checkpoint of {} is not known ({})".format(told["job"], problem)
    said = "the newest checkpoint of {}, {}".format(told["job"], _level(newest))
    if told["safe"] is not None and told["safe"]["name"] != newest["name"]:
        said += ", and {}".format(_level(told["safe"]))
    return "{} ({})".format(said, problem or _NO_MORE)


def _level(row: Dict[str, Any]) -> str:
    what = row["name"] if row["step"] is None else "step {}".format(row["step"])
    level = "unproven" if row["unproven"] else str(row["level"]).upper()
    return "{} is {}".format(what, level or "nowhere")
