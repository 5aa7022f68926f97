"""Asking how the runtime's side is before it is known how this one is: the answer comes meanwhile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from colabdev.models import KnownSide, TreeScan
from colabdev.ports import AgentStream, LocalTree
from colabdev.services.sync_answers import Comparison, parse_comparison

Arguments = Mapping[str, object]
_COMPARE = "sync.compare"
_NO_TREE = ""


def comparing(
    place: Arguments,
    *,
    rules: str,
    tree: str,
    side: KnownSide | None,
    folders: Sequence[str],
) -> dict[str, object]:
    """The arguments of a request that compares, beside those in `place`; see `agent.sync.compare`."""
    return {
        **place,
        "rules": rules,
        "tree": tree,
        "ancestor": side.ancestor if side else "",
        "folders": list(folders),
    }


def known_folders(tree: LocalTree, scan: TreeScan, side: KnownSide | None) -> list[str]:
    """The folders here that no file brings along: empty ones, and those that both sides had."""
    known = side.folders if side is not None else ()
    return sorted({*scan.folders, *(path for path in known if tree.folder(path))})


class Ahead:
    """One comparison that was asked for ahead, with what was true the last time. It says of no tree that
    it is the one here, so the agent writes nothing down. The first time no rules are known yet: the
    answer is to the purpose all the same where nothing is there."""

    def __init__(
        self, agent: AgentStream, place: Arguments, side: KnownSide | None, *, rules: str
    ) -> None:
        self._agent = agent
        self._asked = comparing(
            place,
            rules=rules,
            tree=_NO_TREE,
            side=side,
            folders=side.folders if side is not None else (),
        )
        self._is_answered = False
        agent.ask(_COMPARE, self._asked)

    def take(self, arguments: Arguments) -> Comparison | None:
        """The answer, unless the right question was another one."""
        answer, body = self._agent.answer(_COMPARE)
        self._is_answered = True
        if any(answer.get(word) for word in ("foreign", "unknown_rules")):
            return None
        wanted = arguments["tree"]
        found = parse_comparison(answer, body)
        rules = arguments["rules"] if found.bare else self._asked["rules"]
        if {**self._asked, "tree": wanted, "rules": rules} != arguments:
            return None
        if found.tree != wanted:
            return found
        is_clean = found.changed_only and found.ancestor == wanted and not found.offered
        return replace(found, same=True) if is_clean else None

    def drop(self) -> None:
        """Let the answer go by, so that the next one is that to the next question."""
        if not self._is_answered:
            self._is_answered = True
            self._agent.answer(_COMPARE)
