"""What ngrok's errors mean, in words for the user: the cause, the remedy, and whether waiting helps."""

from __future__ import annotations

import re
from collections.abc import Mapping

from colabdev.core.redact import redact
from colabdev.models.tunnels import Remedy, TunnelProblem

_TOKEN_PAGE = "https://dashboard.ngrok.com/get-started/your-authtoken"
_NEW_TOKEN = f"copy the token of {_TOKEN_PAGE} and give it to: colabdev auth ngrok"
_OTHER_TUNNEL = "another way in: colabdev connect --tunnel colab (or cloudflared)"
_UPDATE = "update colabdev, which brings a newer one"
_PLAN_PAGE = "https://dashboard.ngrok.com/usage shows what is used; it begins anew on the 1st"

_WAIT, _LOGIN, _PLAN, _USER = Remedy.WAITING, Remedy.LOGIN, Remedy.PLAN, Remedy.USER

_PROBLEMS: Mapping[str, tuple[Remedy, str, str]] = {
    "102": (_LOGIN, "the account is suspended", f"ask support@ngrok.com; {_OTHER_TUNNEL}"),
    "103": (_LOGIN, "the account is suspended", f"ask support@ngrok.com; {_OTHER_TUNNEL}"),
    "105": (
        _LOGIN,
        "the token is not one (an API key, or cut off when it was copied?)",
        _NEW_TOKEN,
    ),
    "106": (_LOGIN, "the token is of ngrok's version 1, which has ended", _NEW_TOKEN),
    "107": (_LOGIN, "the token was revoked or reset", _NEW_TOKEN),
    "108": (
        _WAIT,
        "the account has as many agents online as its plan allows (free: 3)",
        "stop one that nobody needs: https://dashboard.ngrok.com/agents",
    ),
    "109": (_USER, "ngrok does not understand this SDK", _UPDATE),
    "110": (_USER, "ngrok does not understand this SDK", _UPDATE),
    "120": (_USER, "the ngrok SDK on the runtime is too old for this account", _UPDATE),
    "121": (_USER, "the ngrok SDK on the runtime is too old for this account", _UPDATE),
    "123": (
        _LOGIN,
        "the account's e-mail address is not verified",
        "verify it: https://dashboard.ngrok.com/user/settings",
    ),
    "218": (_USER, "ngrok's API does not know the version that was asked for", _UPDATE),
    "226": (_WAIT, "ngrok's API was asked too often (120 times a minute)", "nothing to do"),
    "302": (_LOGIN, "ngrok has TCP only for who has an account", _NEW_TOKEN),
    "308": (
        _USER,
        "the token's own rules (ACL) forbid this address",
        "change them: https://dashboard.ngrok.com/authtokens",
    ),
    "316": (
        _USER,
        "the token's own rules (ACL) forbid this address",
        "change them: https://dashboard.ngrok.com/authtokens",
    ),
    "324": (
        _WAIT,
        "the account has as many endpoints online as its plan allows (free: 3)",
        "end one that nobody needs: https://dashboard.ngrok.com/endpoints",
    ),
    "334": (
        _WAIT,
        "the reserved address is online already, perhaps by a session that is ending",
        "stop the other one: https://dashboard.ngrok.com/endpoints",
    ),
    "338": (_LOGIN, "the account is banned", f"ask support@ngrok.com; {_OTHER_TUNNEL}"),
    "702": (
        _WAIT,
        "more new connections a minute than the plan allows (free: 100)",
        "leave connections open instead of opening new ones",
    ),
    "703": (
        _WAIT,
        "more new connections a minute than the plan allows (free: 100)",
        "leave connections open instead of opening new ones",
    ),
    "725": (
        _PLAN,
        "the month's transfer is used up (free: 1 GB)",
        f"{_PLAN_PAGE}; {_OTHER_TUNNEL}",
    ),
    "729": (
        _PLAN,
        "the month's TCP connections are used up (free: 5,000)",
        f"{_PLAN_PAGE}; {_OTHER_TUNNEL}",
    ),
    "811": (_USER, "ngrok does not understand this SDK", _UPDATE),
    "4018": (
        _LOGIN,
        "ngrok got no token, or that of an account that is not verified",
        f"verify the account's e-mail; {_NEW_TOKEN}",
    ),
    "4027": (
        _PLAN,
        "the month's transfer is nearly or wholly used up",
        f"{_PLAN_PAGE}; {_OTHER_TUNNEL}",
    ),
    "8012": (
        _WAIT,
        "the tunnel is up, but no SSH server answers behind it on the runtime",
        "colabdev connect starts it anew",
    ),
    "8013": (
        _LOGIN,
        "ngrok's free plan has TCP only once a card is on file (it is not charged; prepaid ones are "
        "refused)",
        f"add one: https://dashboard.ngrok.com/settings#id-verification; {_OTHER_TUNNEL}",
    ),
    "8014": (_LOGIN, "the account is banned", f"ask support@ngrok.com; {_OTHER_TUNNEL}"),
    "9009": (
        _USER,
        "ngrok's free plan has no agents behind an HTTP proxy",
        "let the runtime reach the internet directly",
    ),
    "9017": (_PLAN, "the account's plan cannot restrict addresses", "connect without --allow-ip"),
    "15002": (
        _PLAN,
        "the account's plan wants a reserved address",
        "reserve one (https://dashboard.ngrok.com/tcp-addresses), then --ngrok-url HOST:PORT",
    ),
}
"""By the number of ERR_NGROK_…: docs of August 2026."""

FINAL_CODES = tuple(code for code, (remedy, _, _) in _PROBLEMS.items() if remedy is not _WAIT)
"""Those that nobody need try again before the user has done something."""

_UNREACHABLE = re.compile("tls handshake|tcp connection|dns|timed? ?out", re.IGNORECASE)


def explain_ngrok(why: str, code: str) -> TunnelProblem:
    """The problem behind what the SDK or its supervisor said; `code` as in ERR_NGROK_<code>, or ""."""
    said = redact(" ".join(why.split()))
    if code in _PROBLEMS:
        remedy, cause, hint = _PROBLEMS[code]
        cause = f"{cause} (ERR_NGROK_{code})"
    elif code:
        remedy, cause, hint = _WAIT, said, f"https://ngrok.com/docs/errors/err_ngrok_{code}"
    elif _UNREACHABLE.search(why):
        remedy, cause, hint = _WAIT, f"the runtime cannot reach ngrok ({said})", _OTHER_TUNNEL
    else:
        remedy, cause, hint = _WAIT, said, "colabdev status says when it is up"
    more = "it is tried again by itself" if remedy is _WAIT else "waiting does not help"
    return TunnelProblem(f"no tunnel by ngrok: {cause}; {more}", hint, remedy)
