"""Google accounts and what proves them: access tokens, refresh tokens, codes."""

from __future__ import annotations

import base64
import hashlib
import secrets
from dataclasses import dataclass, field

from tests.support.colab_server.clock import Clock
from tests.support.colab_server.facts import Facts

SCOPE_PREFIX = "https://www.googleapis.com/auth/"
EMAIL_SCOPE = SCOPE_PREFIX + "userinfo.email"
COLAB_SCOPE = SCOPE_PREFIX + "colaboratory"
DRIVE_FILE_SCOPE = SCOPE_PREFIX + "drive.file"
DRIVE_SCOPE = SCOPE_PREFIX + "drive"
DEFAULT_SCOPES = ("openid", EMAIL_SCOPE, COLAB_SCOPE, DRIVE_FILE_SCOPE)
DEFAULT_EMAIL = "somebody@example.com"
DEFAULT_CLIENT = "stand-in.apps.googleusercontent.com"


@dataclass(slots=True)
class Account:
    email: str
    balance: float = 97.4
    sub: int = 2
    """1 none, 2 recurring, 3 non-recurring."""
    sub_tier: int = 1
    """0 none, 1 Pro, 2 Pro+."""
    accelerators: list[str] = field(default_factory=lambda: ["T4", "L4", "A100", "V5E1"])
    """What it is entitled to."""
    consented: bool = True
    """Whether its Drive may be given to a new runtime without a browser."""
    secrets: dict[str, str] = field(default_factory=dict)
    """Colab's own: what `userdata.get` reads."""
    denied_secrets: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Grant:
    """What a user allowed an OAuth client."""

    account: Account
    client_id: str
    scopes: frozenset[str]


@dataclass(frozen=True, slots=True)
class Code:
    """An authorization code that was not exchanged yet."""

    grant: Grant
    redirect_uri: str
    challenge: str | None


class Accounts:
    def __init__(self, clock: Clock, facts: Facts) -> None:
        self._clock = clock
        self._facts = facts
        self._access: dict[str, tuple[Grant, float]] = {}
        self._refresh: dict[str, Grant] = {}
        self._codes: dict[str, Code] = {}
        self.by_email: dict[str, Account] = {}

    def add(self, email: str) -> Account:
        """The account of that address, made when it is new."""
        return self.by_email.setdefault(email, Account(email))

    def forget_changes(self) -> None:
        """Every account as it was when it was made."""
        for account in self.by_email.values():
            fresh = Account(account.email)
            for name in Account.__slots__:
                setattr(account, name, getattr(fresh, name))

    def grant(self, email: str, client_id: str, scopes: list[str] | None) -> Grant:
        wanted = frozenset(DEFAULT_SCOPES if scopes is None else scopes)
        return Grant(self.add(email), client_id, wanted)

    def issue_access(self, grant: Grant) -> str:
        token = "ya29." + secrets.token_urlsafe(24)
        self._access[token] = (grant, self._clock.now() + self._facts.access_token_life_s)
        return token

    def issue_refresh(self, grant: Grant) -> str:
        token = "1//" + secrets.token_urlsafe(24)
        self._refresh[token] = grant
        return token

    def issue_code(self, code: Code) -> str:
        text = "4/" + secrets.token_urlsafe(24)
        self._codes[text] = code
        return text

    def access(self, token: str) -> Grant | None:
        """Whose token it is; None when it is nobody's, was revoked, or has expired."""
        grant, expires = self._access.get(token, (None, 0.0))
        return grant if grant is not None and self._clock.now() < expires else None

    def expires_in(self, token: str) -> int:
        return int(self._access[token][1] - self._clock.now())

    def refresh(self, token: str, client_id: str) -> Grant | None:
        grant = self._refresh.get(token)
        return grant if grant is not None and grant.client_id == client_id else None

    def redeem(self, text: str, redirect_uri: str, verifier: str | None) -> Grant | None:
        """The grant behind a code, which works once."""
        code = self._codes.pop(text, None)
        if code is None or code.redirect_uri != redirect_uri:
            return None
        if code.challenge is not None and code.challenge != _challenge(verifier or ""):
            return None
        return code.grant

    def revoke(self, token: str) -> bool:
        """Take back the grant behind an access or a refresh token, with every token it led to."""
        grant = self._refresh.get(token) or self._access.get(token, (None, 0.0))[0]
        if grant is None:
            return False
        self._refresh = {key: other for key, other in self._refresh.items() if other is not grant}
        self._access = {key: row for key, row in self._access.items() if row[0] is not grant}
        return True


def _challenge(verifier: str) -> str:
    digest = hashlib.sha256(verifier.encode("ascii", "replace")).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")
