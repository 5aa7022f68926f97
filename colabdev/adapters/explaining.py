"""Which rule decided whether a path is synced, and where that rule stands."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from colabdev.adapters.project_files import (
    is_tracked_by_git,
    list_by_walk,
    list_project,
    why_ignored_by_git,
)
from colabdev.adapters.project_rules import OWN_RULES, ProjectRules, RuleSettings
from colabdev.adapters.rule_files import Compile, RuleFile
from colabdev.agent import tree
from colabdev.agent.piles import CHECKPOINTS
from colabdev.agent.rules import RuleSet
from colabdev.agent.stamps import Index
from colabdev.models import Explanation


@dataclass(frozen=True, slots=True)
class Explainer:
    """Answers for one project."""

    root: Path
    settings: RuleSettings
    rules: ProjectRules
    compile_rules: Compile
    max_bytes: int

    def explain(self, path: str) -> Explanation:
        """Whether `path` is synced, and why. Of a folder: what is in it."""
        name = path.rstrip("/")
        if os.path.isdir(self.root / name) and not os.path.islink(self.root / name):
            path = name + "/"
        try:
            tree.check_name(name)
        except tree.HostileName as exc:
            return Explanation(name, "no", str(exc))
        return (
            self._by_own_rules(path)
            or self._by_outputs(path)
            or self._by_git(path)
            or self._by_itself(name)
        )

    def _by_own_rules(self, path: str) -> Explanation | None:
        own = self.rules.own().own
        for part in _parts(path):
            rule = own.deciding(part)
            if rule is not None and rule.ignores:
                return Explanation(path.rstrip("/"), "no", self._own_place(rule.line))
        return None

    def _own_place(self, line: int) -> str:
        """Where the rule stands: those of the settings come first, then those of the file, then ours."""
        excluded = self.settings.exclude
        if line <= len(excluded):
            return f"excluded by {excluded[line - 1]!r} in [sync] exclude of colabdev.toml"
        lines = [text for file in self.rules.own_files() for text in file.lines]
        number = line - len(excluded)
        if number > len(lines):
            return "a file of colabdev's own, which is never synced"
        return f"ignored by {OWN_RULES}:{number}: {lines[number - 1]}"

    def _by_outputs(self, path: str) -> Explanation | None:
        outputs = self.rules.own().outputs
        for part in _parts(path):
            rule = outputs.deciding(part)
            if rule is not None and rule.ignores:
                pattern = self.settings.outputs[rule.line - 1]
                reason = (
                    f"an output by {pattern!r} in [sync] outputs of colabdev.toml: brought here, "
                )
                return Explanation(path.rstrip("/"), "comes", reason + "never sent")
        return None

    def _by_git(self, path: str) -> Explanation | None:
        root, inside = self._repository(path)
        name = path.rstrip("/")
        git = shutil.which("git")
        listing = list_project(root, self.compile_rules)
        if inside.rstrip("/") in listing.paths:
            if git and is_tracked_by_git(git, root, inside):
                return self._unless_unfit(name, "tracked by git, which no rule takes it out of")
            return self._unless_unfit(name, self._why_not_ignored(git, root, inside))
        found = why_ignored_by_git(git, root, inside) if git else None
        if found is not None and not found[2].startswith("!"):
            return Explanation(name, "no", f"ignored by {found[0]}:{found[1]}: {found[2]}")
        return self._by_walk(root, inside, name)

    def _why_not_ignored(self, git: str | None, root: Path, inside: str) -> str:
        found = why_ignored_by_git(git, root, inside) if git else None
        if found is not None and found[2].startswith("!"):
            return f"kept by {found[0]}:{found[1]}: {found[2]}"
        return "no rule is against it"

    def _by_walk(self, root: Path, inside: str, name: str) -> Explanation | None:
        """What our own evaluation says, where git cannot be asked."""
        files = list_by_walk(root, self.compile_rules).rules[::-1]
        for part in _parts(inside):
            for file in files:
                if not part.startswith(file.folder):
                    continue
                rule = self._deciding(file, part)
                if rule is not None and rule[0]:
                    place = f"{os.path.relpath(file.file, self.root)}:{rule[1]}"
                    text = file.lines[rule[1] - 1]
                    return Explanation(name, "no", f"ignored by {place}: {text}")
                if rule is not None:
                    break
        return None

    def _deciding(self, file: RuleFile, path: str) -> tuple[bool, int] | None:
        found = RuleSet(self.compile_rules(file.lines)).deciding(
            file.above + path[len(file.folder) :]
        )
        return (found.ignores, found.line) if found is not None else None

    def _repository(self, path: str) -> tuple[Path, str]:
        """The repository inside the project that the path lies in, and the path in it."""
        for folder in reversed(list(_folders(path))):
            if os.path.lexists(self.root / folder / ".git"):
                return self.root / folder, path[len(folder) :]
        return self.root, path

    def _by_itself(self, name: str) -> Explanation:
        if not os.path.lexists(self.root / name):
            return Explanation(
                name, "no", "nothing of that name is here, and no rule is against it"
            )
        if os.path.isdir(self.root / name) and not os.path.islink(self.root / name):
            return Explanation(name, "yes", "a folder; what is in it goes by its own names")
        return self._unless_unfit(name, "no rule is against it")

    def _unless_unfit(self, name: str, reason: str) -> Explanation:
        paths = self._with_its_pile(name)
        limits = tree.Limits(self.max_bytes, self.max_bytes)
        scan = tree.scan(str(self.root), paths, Index(), limits)
        for path, problem in scan.problems:
            if path == name:
                return Explanation(name, "no", problem)
        return Explanation(name, "yes", reason)

    def _with_its_pile(self, name: str) -> Sequence[str]:
        """The path, and of a checkpoint those that lie beside it."""
        if not name.endswith(CHECKPOINTS):
            return [name]
        folder = name.rpartition("/")[0]
        listed = list_project(self.root / folder, self.compile_rules).paths
        beside = [path for path in listed if "/" not in path and path.endswith(CHECKPOINTS)]
        return [f"{folder}/{path}".lstrip("/") for path in beside]


def _parts(path: str) -> Sequence[str]:
    """Every folder of the path from the top down, ending with '/', and then the path itself."""
    return [*_folders(path), path] if not path.endswith("/") else list(_folders(path))


def _folders(path: str) -> Iterator[str]:
    end = path.find("/") + 1
    while end:
        yield path[:end]
        end = path.find("/", end) + 1
