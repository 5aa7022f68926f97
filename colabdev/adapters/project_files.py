"""Which files here belong to a project: git's answer, or the same rules over our own walk."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from colabdev.adapters.ignore_files import compile_rules, rule_lines
from colabdev.agent import tree
from colabdev.core.ignore import Filter, Rules
from colabdev.errors import ColabdevError

OWN_RULES = ".colabdevignore"
_GIT_TIMEOUT_S = 300.0
_UNREADABLE = re.compile(r"^warning: could not open directory '(.*)/': (.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Listing:
    """Paths relative to the project, '/'-separated, and the folders that could not be listed."""

    paths: list[str]
    problems: list[tree.Problem]


def list_project(root: Path) -> Listing:
    """Everything that belongs to the project by git's rules.

    What git lists may be a folder: a repository inside this one, with a list of its own.
    """
    git = shutil.which("git")
    listing = list_by_git(git, root) if git and _is_below_git(root) else None
    return listing or list_by_walk(root)


def own_filter(root: Path, exclude: Sequence[str]) -> Filter:
    """The rules of our own, on top of git's: the settings' and those of `.colabdevignore`."""
    lines = [*exclude, *_read_rules(root / OWN_RULES)]
    return Filter(Rules().with_set("", compile_rules([*lines, f"/{tree.OURS}/"])))


def list_by_git(git: str, root: Path) -> Listing | None:
    """What git lists; None when `root` is in no work tree, or in one that ignores all of it."""
    arguments = ["ls-files", "-co", "--exclude-standard", "-z"]
    done = _run_git(git, root, arguments)
    errors = os.fsdecode(done.stderr)
    if done.returncode != 0:
        if "not a git repository" in errors or "must be run in a work tree" in errors:
            return None
        raise ColabdevError(
            f"cannot list the files of {root}: git says {_first_line(errors)!r}",
            hint=f"make `git -C {root} status` work, then type the command again",
        )
    names = os.fsdecode(done.stdout).split("\0")[:-1]
    paths = list(dict.fromkeys(name.rstrip("/") for name in names))
    if not paths and not (root / ".git").exists() and _is_ignored(git, root):
        return None
    problems = [
        (folder, f"cannot be listed: {reason}") for folder, reason in _UNREADABLE.findall(errors)
    ]
    return Listing(paths, problems)


def list_by_walk(root: Path) -> Listing:
    """What git would list if all that is not ignored was new, without asking it."""
    listing = Listing([], [])
    pending = [("", _rules_above(root))]
    while pending:
        folder, rules = pending.pop()
        try:
            with os.scandir(os.path.join(root, folder)) as entries:
                found = {entry.name: entry.is_dir(follow_symlinks=False) for entry in entries}
        except OSError as exc:
            reason = f"cannot be listed: {exc.strerror or exc}"
            listing.problems.append((folder.rstrip("/") or ".", reason))
            continue
        if ".git" in found and folder:
            rules = Rules()  # A repository of its own: the rules of the one around it end here.
        if ".gitignore" in found:
            lines = _read_rules(root / folder / ".gitignore")
            rules = rules.with_set(folder, compile_rules(lines))
        for name, is_folder in found.items():
            path = folder + name
            if name == ".git":
                continue
            if not is_folder and not rules.ignores(path):
                listing.paths.append(path)
            elif is_folder and not rules.ignores(path + "/"):
                pending.append((path + "/", rules))
    return listing


def _is_ignored(git: str, root: Path) -> bool:
    return _run_git(git, root, ["check-ignore", "-q", "."]).returncode == 0


def _rules_above(root: Path) -> Rules:
    """The rules of the work tree that `root` lies in, as far as they stand above it; none when they
    ignore `root` itself, which then is no part of that work tree."""
    top = next((folder for folder in (root, *root.parents) if (folder / ".git").exists()), None)
    if top is None:
        return Rules()
    outer = Rules().with_set("", compile_rules(_read_rules(top / ".git" / "info" / "exclude")))
    way = root.relative_to(top).as_posix() + "/" if root != top else ""
    for end in (index + 1 for index, letter in enumerate(way) if letter == "/"):
        base = way[:end].rpartition("/")[0].rpartition("/")[0]
        base = base + "/" if base else ""
        outer = outer.with_set(base, compile_rules(_read_rules(top / base / ".gitignore")))
        if outer.ignores(way[:end]):
            return Rules()
    # The walk's paths begin below `root`, those of the rules above it at the top.
    return Rules().with_set("", lambda path: outer.verdict(way + path))


def _read_rules(file: Path) -> list[str]:
    try:
        return rule_lines(file.read_bytes())
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return []
    except OSError as exc:
        # Without the rules, what they keep away would be sent.
        raise ColabdevError(
            f"cannot read {file}: {exc.strerror or exc}", hint="give read access to it"
        ) from exc


def _is_below_git(root: Path) -> bool:
    return any((folder / ".git").exists() for folder in (root, *root.parents))


def _run_git(git: str, root: Path, arguments: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
    # Variables of a surrounding git (a hook, say) would make it answer about another repository.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    environment |= {"LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0"}
    try:
        return subprocess.run(
            [git, "-C", str(root), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=environment,
            timeout=_GIT_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise ColabdevError(
            f"cannot list the files of {root}: git: {exc}", hint="make git work here"
        ) from exc


def _first_line(text: str) -> str:
    return next(iter(text.strip().splitlines()), "nothing")
