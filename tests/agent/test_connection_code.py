"""The word that is copied from a notebook to a computer."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

import pytest

from colabdev.agent.connection_code import PREFIX, format_code, parse_code

TOLD: dict[str, Any] = {
    "tunnel": "cloudflared",
    "host": "red-fox.trycloudflare.com",
    "port": 443,
    "host_key": "ssh-ed25519 AAAA",
    "machine": "3f2a",
    "since": 1_790_000_000,
    "expires": 1_790_086_400,
    "drive": True,
}


def coded(document: Any) -> str:
    raw = json.dumps(document).encode()
    checksum = zlib.crc32(raw).to_bytes(4, "big")
    return PREFIX + base64.urlsafe_b64encode(raw + checksum).decode()


def test_code_is_one_word_and_tells_what_was_told() -> None:
    code = format_code({**TOLD, "token": "never"})
    assert len(code.split()) == 1
    assert code.isascii()
    assert parse_code(code) == TOLD


def test_code_may_have_been_wrapped() -> None:
    code = format_code(TOLD)
    assert parse_code(f"  {code[:40]}\r\n  {code[40:90]}\n{code[90:]} ") == TOLD


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "does not begin"),
        ("ssh root@host", "does not begin"),
        (PREFIX, "missing"),
        (format_code(TOLD)[:-3], "missing"),
        (format_code(TOLD).replace("Z", "Y", 1), "missing or was changed"),
        (format_code(TOLD) + "!", "missing"),
        (PREFIX + "ü", "missing"),
        (coded([]), "no object"),
        (coded({**TOLD, "port": "443"}), "port makes no sense"),
        (coded({**TOLD, "port": True}), "port makes no sense"),
        (coded({key: TOLD[key] for key in TOLD if key != "drive"}), "drive makes no sense"),
    ],
)
def test_what_is_no_code_is_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_code(text)


def test_any_single_letter_that_changed_is_noticed() -> None:
    code = format_code(TOLD)
    for place in range(len(PREFIX), len(code)):
        other = "A" if code[place] != "A" else "B"
        try:
            found = parse_code(code[:place] + other + code[place + 1 :])
        except ValueError:
            continue
        # The last letter may have bits that mean nothing.
        assert (place, found) == (len(code) - 1, TOLD)
