"""Each of ngrok's errors is one sentence with its cause, its remedy, and whether waiting helps."""

from __future__ import annotations

import pytest

from colabdev.core.ngrok_problems import FINAL_CODES, explain_ngrok
from colabdev.errors import AuthNeeded, ColabdevError, NoCapacity, RuntimeUnreachable, SshRefused
from tests.support.ngrok_edge import TOKEN

CASES: list[tuple[str, type[ColabdevError], str, str]] = [
    ("102", AuthNeeded, "suspended", "support@ngrok.com"),
    ("103", AuthNeeded, "suspended", "support@ngrok.com"),
    ("105", AuthNeeded, "an API key", "colabdev auth ngrok"),
    ("106", AuthNeeded, "version 1", "colabdev auth ngrok"),
    ("107", AuthNeeded, "revoked", "colabdev auth ngrok"),
    ("108", RuntimeUnreachable, "as many agents online", "dashboard.ngrok.com/agents"),
    ("109", SshRefused, "does not understand", "update colabdev"),
    ("110", SshRefused, "does not understand", "update colabdev"),
    ("120", SshRefused, "too old", "update colabdev"),
    ("121", SshRefused, "too old", "update colabdev"),
    ("123", AuthNeeded, "e-mail address is not verified", "verify it"),
    ("218", SshRefused, "API", "update colabdev"),
    ("226", RuntimeUnreachable, "asked too often", "nothing to do"),
    ("302", AuthNeeded, "has an account", "colabdev auth ngrok"),
    ("308", SshRefused, "ACL", "dashboard.ngrok.com/authtokens"),
    ("316", SshRefused, "ACL", "dashboard.ngrok.com/authtokens"),
    ("324", RuntimeUnreachable, "as many endpoints", "dashboard.ngrok.com/endpoints"),
    ("334", RuntimeUnreachable, "online already", "stop the other one"),
    ("338", AuthNeeded, "banned", "--tunnel colab"),
    ("702", RuntimeUnreachable, "connections a minute", "leave connections open"),
    ("703", RuntimeUnreachable, "connections a minute", "leave connections open"),
    ("725", NoCapacity, "1 GB", "on the 1st"),
    ("729", NoCapacity, "5,000", "on the 1st"),
    ("811", SshRefused, "does not understand", "update colabdev"),
    ("4018", AuthNeeded, "no token", "colabdev auth ngrok"),
    ("4027", NoCapacity, "used up", "on the 1st"),
    ("8012", RuntimeUnreachable, "no SSH server answers", "colabdev connect"),
    ("8013", AuthNeeded, "a card is on file", "id-verification"),
    ("8014", AuthNeeded, "banned", "--tunnel colab"),
    ("9009", SshRefused, "HTTP proxy", "directly"),
    ("9017", NoCapacity, "restrict addresses", "without --allow-ip"),
    ("15002", NoCapacity, "reserved address", "--ngrok-url"),
]


@pytest.mark.parametrize(("code", "kind", "cause", "remedy"), CASES, ids=str)
def test_each_code_has_its_cause_and_its_remedy(
    code: str, kind: type[ColabdevError], cause: str, remedy: str
) -> None:
    error = explain_ngrok(f"failed to start: whatever ngrok says of {TOKEN}", code).error()
    waits = kind is RuntimeUnreachable
    assert type(error) is kind
    assert cause in error.message
    assert f"(ERR_NGROK_{code})" in error.message
    assert remedy in error.hint
    assert error.message.endswith(
        "it is tried again by itself" if waits else "waiting does not help"
    )
    assert (code in FINAL_CODES) is not waits
    assert TOKEN not in error.message + error.hint


def test_codes_and_words_that_nobody_knows_are_passed_on_without_secrets() -> None:
    unknown = explain_ngrok(f"your token {TOKEN}\nis odd", "4711")
    assert "your token" in unknown.message
    assert unknown.hint == "https://ngrok.com/docs/errors/err_ngrok_4711"
    away = explain_ngrok("failed to connect session: failed to establish tcp connection", "")
    assert "the runtime cannot reach ngrok" in away.message
    said = explain_ngrok(f"an end with {TOKEN}", "")
    assert TOKEN not in unknown.message + said.message
