"""The files that hold rules for ignoring, as they are on the disk."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from colabdev.agent.rules import Rule
from colabdev.errors import ColabdevError

Compile = Callable[[Iterable[str]], list[Rule]]
"""What the lines of a rule file mean; `adapters.ignore_files.compile_rules`, which is loaded at need."""


@dataclass(frozen=True, slots=True)
class RuleFile:
    """One rule file, read."""

    folder: str
    """What it is about: a folder of the project, "" or ending with '/'."""
    above: str
    """The way from the file's own folder down to `folder`; "" unless it stands above the project."""
    file: Path
    content: bytes

    @property
    def lines(self) -> list[str]:
        """Split as git splits them."""
        text = self.content.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
        return [line.removesuffix("\r") for line in text.split("\n")]

    def below(self, folder: str) -> RuleFile:
        """The same, seen from a project in which its project is the folder `folder`."""
        return RuleFile(folder + self.folder, self.above, self.file, self.content)


def read_rule_file(file: Path, folder: str = "", above: str = "") -> Iterator[RuleFile]:
    """The file, if there is one; `ColabdevError` when it cannot be read."""
    try:
        content = file.read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return
    except OSError as exc:
        # Without the rules, what they keep away would be sent.
        raise ColabdevError(
            f"cannot read {file}: {exc.strerror or exc}", hint="give read access to it"
        ) from exc
    yield RuleFile(folder, above, file, content)


def rules_above(top: Path, root: Path, base: Iterable[Path]) -> list[RuleFile]:
    """The rules of the work tree at `top` that stand above its folder `root` or beside it, weakest
    first; `base` are its rules that stand in no folder."""
    way = root.relative_to(top).as_posix() + "/" if root != top else ""
    found = [rules for file in base for rules in read_rule_file(file, "", way)]
    start = 0
    while start < len(way):
        found += read_rule_file(top / way[:start] / ".gitignore", "", way[start:])
        start = way.index("/", start) + 1
    return found


def rules_in(root: Path, folders: Iterable[str]) -> Iterator[RuleFile]:
    """The `.gitignore` of each of these folders below `root`, "" or ending with '/'."""
    for folder in folders:
        # Asked first: most folders have none, and a failing open costs more.
        if os.path.lexists(f"{root}/{folder}.gitignore"):
            yield from read_rule_file(root / folder / ".gitignore", folder)


def users_rules(environment_home: str | None, config_home: str | None) -> Path | None:
    """Where git looks for the user's own rules unless it is told otherwise."""
    if config_home:
        return Path(config_home) / "git" / "ignore"
    return Path(environment_home) / ".config" / "git" / "ignore" if environment_home else None
