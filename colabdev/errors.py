"""What can go wrong in a way the user can act on, and the exit code each ends with.

Every expected failure is a `ColabdevError`: a sentence ("cannot <do X>: <cause>") and one hint that
says what to type next. Anything else that reaches a boundary is a bug (exit 70).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import Any, ClassVar


class ExitCode(IntEnum):
    """The exit codes of every command; README.md and `colabdev --help` show the same table."""

    OK = 0
    FAILED = 1
    USAGE = 2
    PARTLY_DONE = 3
    AUTH = 10
    CAPACITY = 11
    UNREACHABLE = 12
    HOST_KEY = 13
    GUARD = 14
    STATE_UNREADABLE = 15
    NOT_SAFE = 16
    BUG = 70
    INTERRUPTED = 130


EXIT_CODE_MEANINGS: Mapping[ExitCode, str] = {
    ExitCode.OK: "done",
    ExitCode.FAILED: "an expected failure, with its reason",
    ExitCode.USAGE: "the command line or colabdev.toml is wrong",
    ExitCode.PARTLY_DONE: "partly done; the rest is listed",
    ExitCode.AUTH: "no usable login",
    ExitCode.CAPACITY: "no quota or no capacity",
    ExitCode.UNREACHABLE: "the runtime is lost or cannot be reached",
    ExitCode.HOST_KEY: "the host key is not the pinned one",
    ExitCode.GUARD: "a sync guard, or somebody else's work dir",
    ExitCode.STATE_UNREADABLE: "a state file cannot be read",
    ExitCode.NOT_SAFE: "not safe enough to release",
    ExitCode.BUG: "a bug in colabdev; a crash log was written",
    ExitCode.INTERRUPTED: "Ctrl-C",
}


class ColabdevError(Exception):
    """An expected failure: what failed, on what, and one next step."""

    exit_code: ClassVar[ExitCode] = ExitCode.FAILED

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def to_json(self) -> dict[str, Any]:
        """The error as the `error` value of a `--json` document and of a keeper's answer. Its type is
        one of this module's, whatever it is more closely."""
        kind = next(kind for kind in type(self).__mro__ if kind.__module__ == __name__)
        return {
            "type": kind.__name__,
            "message": self.message,
            "hint": self.hint,
            "exit_code": int(self.exit_code),
        }


class UsageError(ColabdevError):
    """The command line cannot be carried out as typed."""

    exit_code = ExitCode.USAGE


class SettingsError(ColabdevError):
    """`colabdev.toml` cannot be used."""

    exit_code = ExitCode.USAGE


class AuthNeeded(ColabdevError):
    """No usable credentials."""

    exit_code = ExitCode.AUTH


class DriveNotAllowed(AuthNeeded):
    """Only its user can let a runtime into their Drive, and nobody is there to be asked."""


class NoCapacity(ColabdevError):
    """The provider gives this account no such runtime, or none now."""

    exit_code = ExitCode.CAPACITY


class RuntimeNotFound(ColabdevError):
    """No runtime of that name, or none at all, is known here."""


class JobNotFound(ColabdevError):
    """No job of that id, or none at all, is known."""


class CheckpointNotFound(ColabdevError):
    """No checkpoint of that name, or none at all, is known there."""


class BehindProved(ColabdevError):
    """What is to be had is older than what was proved: nobody goes back to that unasked."""


class RuntimeUnreachable(ColabdevError):
    """The runtime may well be alive, but nothing gets through to it now."""

    exit_code = ExitCode.UNREACHABLE


class RuntimeLost(ColabdevError):
    """The provider says that the runtime is gone."""

    exit_code = ExitCode.UNREACHABLE


class SshRefused(ColabdevError):
    """The runtime lets nobody in by SSH, or the tunnel to it cannot be had, before the user has done
    something about it; waiting does not help."""

    exit_code = ExitCode.UNREACHABLE


class HostKeyMismatch(ColabdevError):
    """Somebody answered with another host key than the pinned one."""

    exit_code = ExitCode.HOST_KEY


class GuardHalted(ColabdevError):
    """A sync that would do what looks like an accident, or would enter somebody else's work dir."""

    exit_code = ExitCode.GUARD


class StateUnreadable(ColabdevError):
    """A state file exists and cannot be understood. It is left as it is."""

    exit_code = ExitCode.STATE_UNREADABLE


class StateNotWritable(ColabdevError):
    """A place where state must be kept cannot be written."""


class ReleaseUnproven(ColabdevError):
    """A runtime was asked to go and could not be shown to be gone; its record is kept."""


class NotSafeToRelease(ColabdevError):
    """The runtime holds work that is nowhere else."""

    exit_code = ExitCode.NOT_SAFE


class NotOnDrive(ColabdevError):
    """Drive has nothing of that name, or nothing of it that is whole."""


class StaleTree(ColabdevError):
    """The work dir does not hold the files that a job was to be started from."""


class NoCode(ColabdevError):
    """Neither the runtime nor its Drive has the code that a job is to be started from."""


class ConflictsLeft(ColabdevError):
    """Files were edited here and on the runtime, and nobody has said yet which are meant."""

    exit_code = ExitCode.PARTLY_DONE


class AgentUnusable(ColabdevError):
    """The agent could not be installed or started on the runtime, or speaks another protocol."""


class ProtocolError(ColabdevError):
    """The other side sent something that is not in the protocol."""


def error_from_json(document: Mapping[str, Any]) -> ColabdevError:
    """The error that `ColabdevError.to_json` described; an unknown type keeps its sentence and hint."""
    known = {kind.__name__: kind for kind in ColabdevError.__subclasses__()}
    kind = known.get(str(document.get("type")), ColabdevError)
    return kind(str(document.get("message", "unknown error")), hint=str(document.get("hint", "")))


def runtime_lost(name: str) -> RuntimeLost:
    """The error for a runtime whose provider says that it is gone."""
    return RuntimeLost(
        f"the runtime {name!r} is gone: its provider does not know it any more",
        hint=f"colabdev connect {name} starts a new one; colabdev down {name} forgets it",
    )


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that `word` was probably meant to be, if any."""
    matches = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return matches[0] if matches else None


def unknown_word(what: str, word: str, known: Iterable[str]) -> str:
    """A sentence for a word that is not known, naming the nearest known one."""
    candidates = sorted(known)
    meant = nearest(word, candidates)
    guess = f"did you mean {meant!r}?" if meant else f"known: {', '.join(candidates)}"
    return f"unknown {what} {word!r}; {guess}"
