"""The request that makes an attempt of a job this machine's, and nobody else's; see `fence`."""

from __future__ import annotations

import re
from functools import partial
from typing import Any, Dict, Optional, Tuple

from . import drive, manifest
from .arrival import Patience
from .fence import Claimant, Wish
from .refusal import Refusal
from .store_requests import messages, open_asked

Answer = Tuple[Dict[str, Any], bytes]

_TOKEN = re.compile("[0-9a-z]{8,64}")


def answer_claim(arguments: Dict[str, Any], body: bytes) -> Answer:
    """Claim `attempt` of `job` for `runtime` in each of `stores`: `{"won": true}`, `{"taken"}`, the
    record of who has it, or `{"left"}`, the claim of one who died before he had it: nobody has that
    number then, nor will. Refusal when a store does not tell.

    Everybody claims in the same order of stores, so who wins the first wins all.
    """
    wish = Wish(
        attempt=int(arguments["attempt"]),
        token=_checked(arguments["token"]),
        runtime=str(arguments.get("runtime") or ""),
        began=dict(arguments.get("from") or {}),
    )
    job = drive.check_part(arguments["job"])
    folder = manifest.run_folder(drive.check_part(arguments["project"]), job)
    named = {str(name) for name in arguments["stores"]} - {manifest.PULL}
    for name in sorted(named, key=manifest.STORES.index):
        end = _claim(arguments, name, folder, wish)
        if end.get("problem"):
            raise Refusal(
                "cannot claim attempt {} of {}: {}: {}".format(
                    wish.attempt, job, name, end["problem"]
                ),
                "colabdev doctor",
            )
        for kind in ("taken", "left"):
            if kind in end:
                return {kind: end[kind]}, b""
    return {"won": True}, b""


def _claim(arguments: Dict[str, Any], name: str, folder: str, wish: Wish) -> Dict[str, Any]:
    store = open_asked(arguments, name)
    asked: Optional[float] = arguments.get("settle_s")
    settle_s = store.lag_s() if asked is None else float(asked)
    claimant = Claimant(store, folder, settle_s, Patience())
    *_, end = messages(partial(claimant.claim, wish))
    return end


def _checked(token: object) -> str:
    """Part of a file's name."""
    if not isinstance(token, str) or _TOKEN.fullmatch(token) is None:
        raise Refusal("{!r} is no token of a claim".format(token))
    return token
