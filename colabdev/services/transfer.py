"""Carrying out what was planned, here and there, and what came of each part of it."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from colabdev.agent import blocks, changes, placing
from colabdev.agent.changes import NOTHING, Change, Unpacker
from colabdev.agent.tree import Problem
from colabdev.core.reconcile import Action, Conflict
from colabdev.core.sizes import format_size
from colabdev.errors import ColabdevError, GuardHalted, ProtocolError
from colabdev.ports import AgentStream, LocalTree, Meter, Progress
from colabdev.services.sync_answers import parse_failures
from colabdev.services.sync_report import is_note

Answer = Mapping[str, object]

_MADE_HERE = (changes.CHMOD, changes.COPY, changes.MAKE_LINK)
"""For these nothing is fetched."""


@dataclass(frozen=True, slots=True)
class Done:
    """What was done of the actions, on either side, and what was not."""

    actions: tuple[Action, ...] = ()
    conflicts: tuple[Conflict, ...] = ()
    problems: tuple[Problem, ...] = ()
    undone: tuple[str, ...] = ()
    """The paths of those problems that an action had."""

    def __add__(self, other: Done) -> Done:
        return Done(
            self.actions + other.actions,
            self.conflicts + other.conflicts,
            self.problems + other.problems,
            self.undone + other.undone,
        )

    def loud(self) -> Done:
        """Without what nobody is told of."""
        return replace(self, actions=tuple(action for action in self.actions if not action.quiet))


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """One project, one work dir, and the agent between them."""

    agent: AgentStream
    place: Mapping[str, object]
    """Which work dir, and whose: arguments of every request."""
    tree: LocalTree
    progress: Progress
    meter: Meter

    def receive(self, actions: Sequence[Action]) -> Done:
        """Fetch and write what is to be here; what turns out not to be possible by pieces, whole."""
        if not actions:
            return Done()
        total = sum(action.content_bytes for action in actions)
        self.progress(f"receiving {_count(actions)}, {format_size(total)}")
        self._have_noted([action.change for action in actions if not action.output])
        done, again = sort_out(actions, self.tree.write(self._fetched(actions, whole=False)))
        if again:
            more, rest = sort_out(again, self.tree.write(self._fetched(again, whole=True)))
            done += more + _given_up(rest)
        return done

    def _have_noted(self, steps: Sequence[Change]) -> None:
        """Let the agent write down what is made here without fetching anything; what is fetched it
        knows. Should this sync be cut, that is then no edit of ours."""
        made = [step for step in steps if step.op in _MADE_HERE and step.entry is not None]
        if made:
            body = changes.pack_body(made, None)
            self.checked(self.agent.request("sync.offer", self.place, body)[0])

    def send(
        self,
        arguments: Mapping[str, object],
        actions: Sequence[Action],
        staged: Mapping[str, int],
    ) -> tuple[Answer, Done]:
        """Let the agent do it, which has so much `staged` of these contents; what turns out not to be
        possible by pieces is sent whole."""
        patched = [_resumed(self.patched(action), action, staged) for action in actions]
        parts = [a.change.entry.digest for a in patched if a.change.skip and a.change.entry]
        arguments = {**arguments, "parts": parts}
        if not all(map(is_note, patched)):
            self.progress(_announcement(patched))
        answer = self._upload({**arguments, "check_only": False}, patched, self._read(patched))
        done, again = sort_out(patched, parse_failures(answer))
        return self.send_whole(arguments, answer, done, again)

    def send_whole(
        self,
        arguments: Mapping[str, object],
        answer: Answer,
        done: Done,
        again: Sequence[Action],
    ) -> tuple[Answer, Done]:
        """What is left of a try that gave this answer; nothing, mostly."""
        if not again:
            return answer, done
        answer = self._upload({**arguments, "check_only": False}, again, self._read(again))
        more, rest = sort_out(again, parse_failures(answer))
        return answer, done + more + _given_up(rest)

    def check(self, arguments: Mapping[str, object], actions: Sequence[Action]) -> Done:
        """What the agent would do of it."""
        if not actions:
            return Done()
        answer = self._upload({**arguments, "check_only": True}, actions, None)
        done, again = sort_out(actions, parse_failures(answer))
        return done + _given_up(again)

    def patched(self, action: Action) -> Action:
        """The action, as a patch when a large file is mostly made of the one that it replaces."""
        change = action.change
        if change.op != changes.SEND or change.entry is None or not may_be_patched(change):
            return action
        old = self.tree.signature(change.path, change.expected[2:])
        recipe = self.tree.recipe(change.entry, old) if old is not None else ()
        if not recipe:
            return action
        return replace(action, change=change._replace(op=changes.PATCH, recipe=recipe))

    def checked(self, answer: Answer) -> Answer:
        """The answer, unless it is that nothing can be done in this work dir."""
        workdir = self.place["workdir"]
        if "foreign" in answer:
            raise GuardHalted(
                f"cannot sync into {workdir}: {answer['foreign']}",
                hint="give the project another [project] name in colabdev.toml, and connect again",
            )
        if "stopped" in answer:
            raise ColabdevError(
                f"cannot go on syncing into {workdir}: {answer['stopped']}; what was sent stays",
                hint="colabdev ssh -- df -h shows the runtime's disks; sync again when there is room",
            )
        return answer

    def _upload(
        self,
        arguments: Mapping[str, object],
        actions: Iterable[Action],
        read: changes.Read | None,
    ) -> Answer:
        frames = changes.pack((action.change for action in actions), read)
        answer, _ = self.agent.upload("sync.apply", arguments, frames)
        return self.checked(answer)

    def _read(self, actions: Sequence[Action]) -> changes.Read:
        told = _told(self.meter, "sent", sum(action.content_bytes for action in actions))

        def read(change: Change) -> Iterator[bytes]:
            for piece in self.tree.read(change):
                told(len(piece))
                yield piece

        return read

    def _fetched(self, actions: Sequence[Action], *, whole: bool) -> _Fetched:
        wanted = [action.change for action in actions if action.change.op == changes.SEND]
        if not wanted:
            return _Fetched(actions, None, lambda count: None)
        lines = [json.dumps(self._want(change, whole=whole)) for change in wanted]
        body = zlib.compress("\n".join(lines).encode("ascii"), 1)
        frames = self.agent.stream("sync.fetch", self.place, body)

        def next_frame() -> changes.Frame:
            header, content = next(frames)
            return dict(self.checked(header)), content

        told = _told(self.meter, "received", sum(change.content_bytes for change in wanted))
        return _Fetched(actions, Unpacker(next_frame), told)

    def _want(self, change: Change, *, whole: bool) -> list[object]:
        """A file as `sync.fetch` is asked for it: the rest of it, or what is new in it, if possible."""
        entry = change.entry
        assert entry is not None, "only files are fetched"
        if whole:
            return [change.path, entry.fingerprint, 0, None]
        staged = min(self.tree.staged().get(entry.digest, 0), entry.size)
        if staged or not may_be_patched(change):
            return [change.path, entry.fingerprint, staged, None]
        old = self.tree.signature(change.path, change.expected[2:])
        text = base64.b64encode(old.to_bytes()).decode("ascii") if old is not None else None
        return [change.path, entry.fingerprint, 0, text]


def may_be_patched(change: Change) -> bool:
    """Whether it is a large file in the place of another file."""
    entry = change.entry
    is_large = entry is not None and entry.size >= blocks.FROM_BYTES
    return is_large and change.expected.startswith("f")


def _resumed(patched: Action, whole: Action, staged: Mapping[str, int]) -> Action:
    """The rest of a file of which a sync that was cut brought a part, where that is the least."""
    entry = whole.change.entry
    if whole.change.op != changes.SEND or entry is None:
        return patched
    skip = min(staged.get(entry.digest, 0), entry.size)
    if not skip or patched.content_bytes < entry.size - skip:
        return patched
    return replace(whole, change=whole.change._replace(skip=skip))


def sort_out(
    actions: Sequence[Action], failures: Sequence[tuple[str, str, str]]
) -> tuple[Done, list[Action]]:
    """What was done, and what is to be tried again as a whole; failures are (path, kind, detail)."""
    failed = {path: (kind, detail) for path, kind, detail in failures}
    done = Done(actions=tuple(action for action in actions if action.path not in failed))
    again = []
    for action in actions:
        kind, detail = failed.get(action.path, ("", ""))
        if kind == placing.AGAIN:
            whole = action.change._replace(op=changes.SEND, source="", recipe=(), skip=0)
            again.append(replace(action, change=whole))
        elif kind == placing.CONFLICT:
            done += Done(conflicts=(_conflict(action, detail),))
        elif kind:
            where = "" if action.here else "on the runtime, "
            done += Done(problems=((action.path, where + detail),), undone=(action.path,))
    return done, again


class _Fetched:
    """Actions here as steps, with the contents that the agent sends for them."""

    def __init__(
        self, actions: Sequence[Action], stream: Unpacker | None, told: Callable[[int], None]
    ) -> None:
        self._actions = actions
        self._stream = stream
        self._told = told
        self._incoming = stream.changes() if stream else iter(())
        self._has_content = False

    def changes(self) -> Iterator[Change]:
        for action in self._actions:
            self._has_content = action.change.op == changes.SEND
            yield self._arrived(action.change) if self._has_content else action.change
        for _ in self._incoming:
            raise ProtocolError("the agent sends more than was asked for")

    def content(self) -> Iterator[memoryview]:
        if self._has_content and self._stream is not None:
            for piece in self._stream.content():
                self._told(len(piece))
                yield piece

    def _arrived(self, planned: Change) -> Change:
        """What the agent sends for it, checked to be what was asked for."""
        try:
            found = next(self._incoming)
        except StopIteration:
            raise ProtocolError("the agent sends less than was asked for") from None
        except (ValueError, TypeError) as exc:
            raise ProtocolError(f"cannot understand what the agent sends: {exc}") from exc
        if found.path != planned.path:
            raise ProtocolError(f"the agent sends {found.path!r}, not {planned.path!r}")
        if found.op == changes.FORGET or found.fingerprint != planned.fingerprint:
            return Change(changes.FORGET, planned.path, NOTHING)
        return found._replace(expected=planned.expected)


def _told(meter: Meter, word: str, total: int) -> Callable[[int], None]:
    """Tells the meter how far a transfer is, count by count."""
    done = 0

    def tell(count: int) -> None:
        nonlocal done
        done += count
        meter(word, done, max(total, done))

    return tell


def _given_up(actions: Sequence[Action]) -> Done:
    reason = "changed meanwhile; the next sync takes it along"
    return Done(
        problems=tuple((action.path, reason) for action in actions),
        undone=tuple(action.path for action in actions),
    )


def _conflict(action: Action, detail: str) -> Conflict:
    """What turned out only while it was done."""
    if action.here:
        return Conflict(action.path, detail, action.reason.removesuffix(" there"))
    return Conflict(action.path, action.reason, detail)


def _announcement(actions: Sequence[Action]) -> str:
    sent = [action for action in actions if action.change.op in changes.PUTS]
    if not sent:
        return "bringing the work dir in step"
    return f"sending {_count(sent)}, {format_size(sum(a.content_bytes for a in sent))}"


def _count(actions: Sequence[Action]) -> str:
    return "1 file" if len(actions) == 1 else f"{len(actions)} files"
