"""The secrets of web pages on a runtime."""

from __future__ import annotations

from colabdev.core.page_tokens import make_token


def test_token_is_the_same_again_and_another_for_every_page_and_key() -> None:
    first = make_token(b"key", "request", 20000)
    assert make_token(b"key", "request", 20000) == first
    others = {
        make_token(b"key", "request", 20001),
        make_token(b"key", "request-2", 20000),
        make_token(b"another", "request", 20000),
    }
    assert len({first, *others}) == 4
