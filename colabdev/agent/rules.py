"""Which paths belong to a project: rules in the way of `.gitignore`, evaluated the same on both ends.

The computer that has the rule files compiles them; what they compile to is a document that travels to
the agent, so that both ends list by the same rules. As git has it: rule sets stand in folders and are
about what lies below; of several the nearest that says something decides, within one the last rule;
what lies in an ignored folder is ignored, whatever is said of itself; a repository inside another one
starts anew. On top of that stand the project's own rules, which nothing overrides, and its outputs,
which are looked for in ignored folders, too.

Paths are relative to the project, '/'-separated; one of a folder ends with '/'.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Dict, Iterable, List, NamedTuple, Optional, Pattern, Sequence, Set, Tuple

SCHEMA = 1

NAME = "name"
"""The rule's text is the last part of a path."""
END = "end"
"""The rule's text is the end of the last part of a path."""
PATH = "path"
"""The rule's text is a regular expression for the whole path."""

PROJECT = "project"
OUTPUT = "output"
IGNORED = "ignored"


_RULE_FILES = (".gitignore", ".colabdevignore")


class Rule(NamedTuple):
    """One line of a rule file, compiled. Its text has a letter for each byte: see `bytewise`."""

    kind: str
    text: str
    folders_only: bool
    ignores: bool
    """False for a line that begins with `!`."""
    line: int
    """Where it stands in its file, from 1; 0 when it stands in none."""


def is_rule_file(path: str) -> bool:
    """Whether what stands at `path` may change what belongs to the project."""
    return path.rpartition("/")[2] == _RULE_FILES[0] or path == _RULE_FILES[1]


def bytewise(text: str) -> str:
    """A letter for each byte: `?` is one byte in git, and names need not be UTF-8."""
    return text if text.isascii() else text.encode("utf-8", "surrogateescape").decode("latin-1")


class RuleSet:
    """The rules of one file."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.rules = [Rule(*rule) for rule in rules]
        self._names: Dict[str, List[int]] = {}
        ends: List[Tuple[int, str]] = []
        self._paths: List[int] = []
        for number, rule in enumerate(self.rules):
            if rule.kind == NAME:
                self._names.setdefault(rule.text, []).append(number)
            elif rule.kind == END:
                ends.append((number, rule.text))
            else:
                self._paths.append(number)
        self._ends = ends[::-1]
        self._any_end = tuple(text for _, text in ends)
        self._paths.reverse()
        # Compiled at need: most runs need none of them, and compiling costs more than all else here.
        self._compiled: Dict[int, Pattern[str]] = {}

    def deciding(self, path: str) -> Optional[Rule]:
        """The last rule that is about `path`, which is relative to the folder of the rules."""
        whole = bytewise(path)
        is_folder = whole.endswith("/")
        name = (whole[:-1] if is_folder else whole).rpartition("/")[2]
        found = -1
        for number in self._names.get(name, ()):
            if is_folder or not self.rules[number].folders_only:
                found = number
        if self._any_end and name.endswith(self._any_end):
            for number, text in self._ends:
                if number < found:
                    break
                if name.endswith(text) and (is_folder or not self.rules[number].folders_only):
                    found = number
                    break
        for number in self._paths:
            if number < found:
                break
            if self.rules[number].folders_only and not is_folder:
                continue
            if self._pattern(number).search(whole):
                found = number
                break
        return self.rules[found] if found >= 0 else None

    def _pattern(self, number: int) -> Pattern[str]:
        pattern = self._compiled.get(number)
        if pattern is None:
            pattern = re.compile(self.rules[number].text, re.DOTALL)
            self._compiled[number] = pattern
        return pattern


class Placed(NamedTuple):
    """A rule set and where it stands."""

    folder: str
    """It is about what lies in this folder of the project; "" or ending with '/'."""
    above: str
    """The way from where the rules stand down to `folder`; "" unless they stand above the project."""
    rules: RuleSet

    def deciding(self, path: str) -> Optional[Rule]:
        """The rule about `path`, which lies in `folder`."""
        return self.rules.deciding(self.above + path[len(self.folder) :])


class Folder(NamedTuple):
    """How the rules stand for what lies in one folder."""

    path: str
    """"" or ending with '/'."""
    sets: Tuple[Placed, ...]
    """Nearest last."""
    kind: str
    """What lies in it is this, unless something is said of itself."""


class Rules:
    """All rules of a project."""

    def __init__(
        self,
        sets: Sequence[Placed] = (),
        repositories: Iterable[str] = (),
        own: Optional[RuleSet] = None,
        outputs: Optional[RuleSet] = None,
        output_roots: Sequence[str] = (),
    ) -> None:
        self.sets: Dict[str, List[Placed]] = {}
        for placed in sets:
            self.sets.setdefault(placed.folder, []).append(placed)
        self.repositories: Set[str] = set(repositories)
        self.own = own or RuleSet([])
        self.outputs = outputs or RuleSet([])
        self.output_roots = tuple(output_roots)
        """Folders below which outputs are looked for even where all else is ignored."""

    def root(self) -> Folder:
        """The project's top."""
        return Folder("", tuple(self.sets.get("", ())), PROJECT)

    def kind(self, folder: Folder, path: str) -> str:
        """What `path`, which lies directly in `folder`, is. Of an ignored folder see `enter`."""
        if self.own.rules:
            rule = self.own.deciding(path)
            if rule is not None and rule.ignores:
                return IGNORED
        if folder.kind == OUTPUT:
            return OUTPUT
        if self.outputs.rules:
            rule = self.outputs.deciding(path)
            if rule is not None and rule.ignores:
                return OUTPUT
        if folder.kind == IGNORED:
            return IGNORED
        for placed in reversed(folder.sets):
            rule = placed.deciding(path)
            if rule is not None:
                return IGNORED if rule.ignores else PROJECT
        return PROJECT

    def enter(self, folder: Folder, path: str) -> Optional[Folder]:
        """The folder `path` (ending with '/') in `folder`; None when nothing in it matters."""
        kind = self.kind(folder, path)
        if kind == IGNORED and not self._may_hold_outputs(path):
            return None
        above = () if path in self.repositories else folder.sets
        return Folder(path, (*above, *self.sets.get(path, ())), kind)

    def _may_hold_outputs(self, path: str) -> bool:
        rule = self.own.deciding(path)
        if rule is not None and rule.ignores:
            return False
        return any(root.startswith(path) or path.startswith(root) for root in self.output_roots)

    def find_folder(self, path: str) -> Optional[Folder]:
        """The folder at `path` ("" or ending with '/'), from the top down; None when it is ignored."""
        folder: Optional[Folder] = self.root()
        end = path.find("/") + 1
        while folder is not None and end:
            folder = self.enter(folder, path[:end])
            end = path.find("/", end) + 1
        return folder


def to_document(rules: Rules) -> str:
    """The rules as they travel: JSON in ASCII, the same for the same rules."""
    sets = [
        [placed.folder, placed.above, placed.rules.rules]
        for _, several in sorted(rules.sets.items())
        for placed in several
    ]
    document = {
        "schema": SCHEMA,
        "sets": sets,
        "repositories": sorted(rules.repositories),
        "own": rules.own.rules,
        "outputs": rules.outputs.rules,
        "output_roots": rules.output_roots,
    }
    return json.dumps(document, separators=(",", ":"))


def from_document(text: str) -> Rules:
    """The rules that `to_document` gave; ValueError when it is no such document."""
    try:
        document = json.loads(text)
        if document["schema"] != SCHEMA:
            raise ValueError("another format")
        return Rules(
            [Placed(folder, above, RuleSet(rows)) for folder, above, rows in document["sets"]],
            document["repositories"],
            RuleSet(document["own"]),
            RuleSet(document["outputs"]),
            document["output_roots"],
        )
    except (TypeError, KeyError, AttributeError, RecursionError) as exc:
        raise ValueError("no rules: {}".format(exc)) from exc


def key_of(document: str) -> str:
    """What names a document of rules."""
    return hashlib.sha256(document.encode("ascii")).hexdigest()
