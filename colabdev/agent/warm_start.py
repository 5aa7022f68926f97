"""Environments from Drive, for a machine that has not made them: brought if there are any, and said how
long that took beside how long making them takes.

A Drive that does not answer holds only a child, which is given up; then the environment is made as ever.
"""

from __future__ import annotations

import os
import time
from functools import partial
from typing import Any, Callable, Dict, List, Tuple

from . import environment_archives, environments, jobdir
from .child import Child, Say
from .drive import explain

Answer = Tuple[Dict[str, Any], bytes]

KEPT = "kept.json"
"""In an environment: where on Drive it is, and how well that is proved (`keeping`)."""
STALL_S = 45.0
"""A Drive that says nothing for so long hangs."""


class Source:
    """Where environments come from."""

    def __init__(self, drive_dir: str, python: Dict[str, Any], stall_s: float = STALL_S) -> None:
        self._drive_dir = drive_dir
        self._python = python
        self._stall_s = stall_s

    def restore(self, directory: str, lock: int) -> Dict[str, Any]:
        """Bring the environment: `{"found", "problem", "cold_s", "warm_s", "path"}`. It is there, and
        whole, when it is found and there is no problem."""
        begun = time.monotonic()
        child = Child(partial(self._bring, directory, lock))
        told = last_word(child, self._stall_s)
        if told["problem"] or not told["found"]:
            return told
        told["warm_s"] = time.monotonic() - begun
        kept = {"schema": environments.SCHEMA, "path": told["path"], "level": "", "problem": ""}
        jobdir.write_document(os.path.join(directory, KEPT), kept)
        environments.finish(directory, {key: told[key] for key in ("cold_s", "warm_s")})
        return told

    def _bring(self, directory: str, lock: int, say: Say) -> None:
        os.close(lock)  # One that hangs must not hold it.
        try:
            environment_archives.bring(self._drive_dir, directory, self._python, say)
        except OSError as exc:
            say({"end": True, "found": True, "problem": explain(exc)})


def last_word(child: Child, stall_s: float) -> Dict[str, Any]:
    """What it says with `end`; one that hangs is given up."""
    while child.fd >= 0:
        child.wait(stall_s)
        child.messages()
        if time.monotonic() - child.heard > stall_s:
            child.kill()
            return {"found": True, "problem": "Drive does not answer"}
    child.join()
    if child.last.get("end"):
        return child.last
    return {"found": True, "problem": str(child.last.get("problem") or "it was interrupted")}


def restorer(
    drive_dir: str, wanted: environments.Wanted, python: Dict[str, Any], say: Callable[[str], None]
) -> Callable[[str, int], bool]:
    """What `environments.provide` asks before it installs; `say` hears of it."""

    def restore(directory: str, lock: int) -> bool:
        if environments.names_files(wanted):
            return False
        told = Source(drive_dir, python).restore(directory, lock)
        if told["problem"]:
            say("the environment on Drive is not used: {}".format(told["problem"]))
        elif told["found"]:
            say(words(told))
        return bool(told["found"]) and not told["problem"]

    return restore


def words(told: Dict[str, Any]) -> str:
    """How long it took beside how long it would have taken."""
    return "environment: cold {:.0f} s -> warm {:.1f} s".format(told["cold_s"], told["warm_s"])


def answer_restore(arguments: Dict[str, Any], body: bytes) -> Answer:
    """Have the environment of `lines` here before anybody needs it, if Drive has it.

    Arguments: `name`, `lines` (of the requirements, with what they include), `drive_dir`. Answer:
    `found` (on Drive), `here` (it is there now), `problem`, and when it was brought `cold_s`, `warm_s`.
    """
    lines: List[str] = [str(line) for line in arguments["lines"]]
    wanted = environments.Wanted(str(arguments["name"]), "", lines, "/", "")
    told: Dict[str, Any] = {"found": False, "problem": ""}
    if environments.names_files(wanted):
        return dict(told, here=False), b""
    try:
        python = environments.ask(wanted, [])
    except environments.CannotInstall as exc:
        return dict(told, here=False, problem=str(exc)), b""
    root = os.path.join(os.path.expanduser("~"), ".colabdev", "environments")
    source = Source(str(arguments["drive_dir"]), python)

    def fill(lock: int) -> bool:
        told.update(source.restore(directory, lock))
        return bool(told["found"]) and not told["problem"]

    directory = os.path.join(root, environments.key_of(wanted, python))
    made = environments.use(directory, fill)
    if made is not None:
        os.close(made.lock)
    return dict(told, here=made is not None), b""
