"""Which files here belong to a project: git's answer, or the same rules over our own walk."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from colabdev.adapters.rule_files import (
    Compile,
    RuleFile,
    read_rule_file,
    rules_above,
    rules_in,
    users_rules,
)
from colabdev.agent import tree
from colabdev.agent.rules import PROJECT, Folder, Placed, Rules, RuleSet
from colabdev.errors import ColabdevError

_GIT_TIMEOUT_S = 300.0
_UNREADABLE = re.compile(r"^warning: could not open directory '(.*)/': (.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Listing:
    """Paths relative to the project, '/'-separated, and the folders that could not be listed."""

    paths: list[str]
    problems: list[tree.Problem]
    rules: list[RuleFile] = field(default_factory=list)
    """The rules that it was made by; of one folder the weakest first."""

    def below(self, folder: str) -> Listing:
        """The same, seen from a project in which this one is the folder `folder` (ending with '/')."""
        return Listing(
            [folder + path for path in self.paths],
            [(folder + path, reason) for path, reason in self.problems],
            [rules.below(folder) for rules in self.rules],
        )


def list_project(root: Path, compile_rules: Compile) -> Listing:
    """Everything that belongs to the project by git's rules.

    What git lists may be a folder: a repository inside this one, with a list of its own.
    """
    git = shutil.which("git")
    listing = list_by_git(git, root) if git and _is_below_git(root) else None
    return listing or list_by_walk(root, compile_rules)


def list_by_git(git: str, root: Path) -> Listing | None:
    """What git lists; None when `root` is in no work tree, or in one that ignores all of it."""
    # Side by side, because each is mostly the start of a process.
    listed = _start_git(git, root, ["ls-files", "-co", "--exclude-standard", "-z"])
    places = _start_git(git, root, ["rev-parse", "--show-prefix", "--git-path", "info/exclude"])
    users = _start_git(git, root, ["config", "--type=path", "--get", "core.excludesFile"])
    done = _finish_git(listed, root)
    found = [os.fsdecode(_finish_git(process, root).stdout) for process in (places, users)]
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
    if not paths and not (root / ".git").exists() and is_ignored_by_git(git, root):
        return None
    problems = [
        (folder, f"cannot be listed: {reason}") for folder, reason in _UNREADABLE.findall(errors)
    ]
    return Listing(paths, problems, _rules_of_work_tree(root, paths, *found))


def list_by_walk(root: Path, compile_rules: Compile) -> Listing:
    """What git would list if all that is not ignored was new, without asking it."""
    listing = Listing([], [])
    rules = Rules()
    above = _rules_above(root, compile_rules)
    listing.rules.extend(above)
    pending = [Folder("", tuple(_placed(file, compile_rules) for file in above), PROJECT)]
    while pending:
        folder = pending.pop()
        try:
            with os.scandir(os.path.join(root, folder.path)) as entries:
                found = {entry.name: entry.is_dir(follow_symlinks=False) for entry in entries}
        except OSError as exc:
            reason = f"cannot be listed: {exc.strerror or exc}"
            listing.problems.append((folder.path.rstrip("/") or ".", reason))
            continue
        sets = folder.sets
        if ".git" in found and folder.path:
            rules.repositories.add(folder.path)
            sets = ()  # A repository of its own: the rules of the one around it end here.
        if ".gitignore" in found:
            for file in read_rule_file(root / folder.path / ".gitignore", folder.path):
                listing.rules.append(file)
                sets = (*sets, _placed(file, compile_rules))
        for name, is_folder in found.items():
            path = folder.path + name + ("/" if is_folder else "")
            if name == ".git" or rules.kind(folder._replace(sets=sets), path) != PROJECT:
                continue
            if is_folder:
                pending.append(Folder(path, sets, PROJECT))
            else:
                listing.paths.append(path)
    return listing


def is_ignored_by_git(git: str, root: Path) -> bool:
    """Whether the work tree around `root` ignores it."""
    done = _finish_git(_start_git(git, root, ["check-ignore", "-q", "."]), root)
    return done.returncode == 0


def why_ignored_by_git(git: str, root: Path, path: str) -> tuple[str, str, str] | None:
    """The file, line and pattern that decide about `path`, as git says; None when none does."""
    arguments = ["check-ignore", "-v", "-z", "--no-index", "--non-matching", "--stdin"]
    process = _start_git(git, root, arguments, stdin=subprocess.PIPE)
    done = _finish_git(process, root, os.fsencode(path) + b"\0")
    fields = os.fsdecode(done.stdout).split("\0")
    if len(fields) < 4 or not fields[0]:
        return None
    return fields[0], fields[1], fields[2]


def is_tracked_by_git(git: str, root: Path, path: str) -> bool:
    """Whether `path` is in git's index, which no rule takes it out of."""
    arguments = ["ls-files", "--error-unmatch", "-z", "--", f":(literal){path}"]
    return _finish_git(_start_git(git, root, arguments), root).returncode == 0


def _rules_of_work_tree(
    root: Path, paths: Sequence[str], places: str, excludes_file: str
) -> list[RuleFile]:
    """The rules by which git listed these paths; `places` and `excludes_file` are what it said."""
    way, _, exclude = places.rstrip("\n").partition("\n")
    top = Path(str(root).removesuffix("/" + way.rstrip("/"))) if way else root
    default = users_rules(os.environ.get("HOME"), os.environ.get("XDG_CONFIG_HOME"))
    users = Path(excludes_file.rstrip("\n")) if excludes_file else default
    base = [*([users] if users else []), root / exclude]
    folders = {""}
    for path in paths:
        end = path.rfind("/") + 1
        while path[:end] not in folders:
            folders.add(path[:end])
            end = path.rfind("/", 0, end - 1) + 1
    return [*rules_above(top, root, base), *rules_in(root, sorted(folders))]


def _rules_above(root: Path, compile_rules: Compile) -> list[RuleFile]:
    """The rules of the work tree that `root` lies in, as far as they stand above it; none when they
    ignore `root` itself, which then is no part of that work tree."""
    top = next((folder for folder in (root, *root.parents) if (folder / ".git").exists()), None)
    if top is None:
        return []
    found = rules_above(top, root, [top / ".git" / "info" / "exclude"])
    way = root.relative_to(top).as_posix() + "/" if root != top else ""
    whole = Rules([_seen_from_top(file, way, compile_rules) for file in found])
    return found if whole.find_folder(way) is not None else []


def _seen_from_top(file: RuleFile, way: str, compile_rules: Compile) -> Placed:
    return Placed(way.removesuffix(file.above), "", RuleSet(compile_rules(file.lines)))


def _placed(file: RuleFile, compile_rules: Compile) -> Placed:
    return Placed(file.folder, file.above, RuleSet(compile_rules(file.lines)))


def _is_below_git(root: Path) -> bool:
    return any((folder / ".git").exists() for folder in (root, *root.parents))


def _start_git(
    git: str, root: Path, arguments: Sequence[str], stdin: int = subprocess.DEVNULL
) -> subprocess.Popen[bytes]:
    # Variables of a surrounding git (a hook, say) would make it answer about another repository.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    environment |= {"LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0"}
    try:
        return subprocess.Popen(
            [git, "-C", str(root), *arguments],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
        )
    except OSError as exc:
        raise _git_failed(root, exc) from exc


def _finish_git(
    process: subprocess.Popen[bytes], root: Path, asked: bytes | None = None
) -> subprocess.CompletedProcess[bytes]:
    with process:
        try:
            stdout, stderr = process.communicate(asked, timeout=_GIT_TIMEOUT_S)
        except subprocess.TimeoutExpired as exc:
            process.kill()
            raise _git_failed(root, exc) from exc
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def _git_failed(root: Path, exc: Exception) -> ColabdevError:
    return ColabdevError(f"cannot list the files of {root}: git: {exc}", hint="make git work here")


def _first_line(text: str) -> str:
    return next(iter(text.strip().splitlines()), "nothing")
