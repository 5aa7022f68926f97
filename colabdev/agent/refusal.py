"""What the agent declines to do, in words for the user."""

from __future__ import annotations


class Refusal(Exception):
    """Travels as an answer: a sentence and what to type next."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class NoCode(Refusal):
    """Neither this machine nor its Drive has the code that a job is to be started from."""


class Stale(Refusal):
    """The work dir does not hold the files that the client expects there."""
