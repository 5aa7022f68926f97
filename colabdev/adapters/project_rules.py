"""The rules of a project, compiled; compiled anew only when what they stand in changed."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from colabdev.adapters.files import write_cache
from colabdev.adapters.rule_files import Compile, RuleFile, read_rule_file
from colabdev.agent import rules, tree
from colabdev.agent.rules import Placed, Rules, RuleSet
from colabdev.core.names import BUG_REPORT

OWN_RULES = ".colabdevignore"
_OUTPUT_ROOT = re.compile(r"/?((?:[^*?\[\\/]+/)+)")
MADE_BY_MACHINES = ("__pycache__/", ".ipynb_checkpoints/")
"""What programs on the runtime leave beside the files, and nobody typed: the weakest of all rules there,
so that `!__pycache__/` in a `.gitignore` is stronger."""


@dataclass(frozen=True, slots=True)
class RuleSettings:
    """What the project's settings say, as in `.gitignore`."""

    exclude: Sequence[str] = ()
    outputs: Sequence[str] = ()


class ProjectRules:
    """The rules of the project at `root`; what they compile to is kept in `cache_file`."""

    def __init__(
        self, root: Path, settings: RuleSettings, cache_file: Path, compile_rules: Compile
    ) -> None:
        self._settings = settings
        self._compile = compile_rules
        self._cache_file = cache_file
        self._root = root
        self._cache: dict[str, dict[str, Any]] | None = None

    def own(self) -> Rules:
        """The rules that are not git's: those of the settings and of `.colabdevignore`."""
        lines = [line for file in self.own_files() for line in file.lines]
        settings = self._settings
        excluded = [*settings.exclude, *lines, f"/{tree.OURS}/", f"{BUG_REPORT}*.zip"]
        sources = [rules.SCHEMA, excluded, list(settings.outputs)]
        made = self._cached("own", sources, lambda: self._own(excluded))
        return rules.from_document(made)

    def own_files(self) -> list[RuleFile]:
        """`.colabdevignore`, if there is one."""
        return list(read_rule_file(self._root / OWN_RULES))

    def document(self, files: Sequence[RuleFile], repositories: Sequence[str]) -> str:
        """All rules as they travel: those of git's files, and `own`."""
        own = self.own()
        sources = [rules.to_document(own), list(repositories)]
        sources += [[file.folder, file.above, file.content.hex()] for file in files]
        return self._cached("all", sources, lambda: self._all(own, files, repositories))

    def last_key(self) -> str:
        """The key of the document that was made or found last; "" when there is none."""
        document = self._load().get("all", {}).get("document")
        return rules.key_of(document) if isinstance(document, str) else ""

    def _own(self, excluded: Sequence[str]) -> str:
        outputs = self._settings.outputs
        own = Rules(
            own=RuleSet(self._compile(excluded)),
            outputs=RuleSet(self._compile(outputs)),
            output_roots=output_roots(outputs),
        )
        return rules.to_document(own)

    def _all(self, own: Rules, files: Sequence[RuleFile], repositories: Sequence[str]) -> str:
        made = RuleSet(self._compile(MADE_BY_MACHINES))
        weakest = [Placed(folder, "", made) for folder in ("", *repositories)]
        sets = [
            Placed(file.folder, file.above, RuleSet(self._compile(file.lines))) for file in files
        ]
        whole = Rules([*weakest, *sets], repositories, own.own, own.outputs, own.output_roots)
        return rules.to_document(whole)

    def _cached(self, name: str, sources: Sequence[object], make: Callable[[], str]) -> str:
        key = hashlib.sha256(json.dumps(sources).encode("ascii")).hexdigest()
        known = self._load().get(name, {})
        if known.get("key") == key and isinstance(known.get("document"), str):
            return str(known["document"])
        document = make()
        cache = {**self._load(), name: {"key": key, "document": document}}
        self._cache = cache
        write_cache(self._cache_file, json.dumps(cache).encode("ascii"))
        return document

    def _load(self) -> dict[str, dict[str, Any]]:
        if self._cache is None:
            try:
                found = json.loads(self._cache_file.read_text(encoding="ascii"))
                self._cache = {name: found[name] for name in found if isinstance(found[name], dict)}
            except (OSError, ValueError, TypeError):
                self._cache = {}
        return self._cache


def output_roots(patterns: Iterable[str]) -> list[str]:
    """The folders that patterns of outputs begin with, ending with '/'. Outputs are looked for in them
    even if they are ignored."""
    found = (_OUTPUT_ROOT.match(line) for line in patterns if not line.startswith(("#", "!")))
    return [match[1] for match in found if match]
