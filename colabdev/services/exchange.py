"""One sync over one agent: ask, plan, guard, and do what is to be done, here first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from colabdev.agent import changes, rules
from colabdev.agent.changes import NOTHING, Change
from colabdev.agent.tree import hash_fingerprints
from colabdev.core.folders import FolderPair, FolderPlan, plan_folders, upward
from colabdev.core.portability import unportable
from colabdev.core.reconcile import (
    TWO_WAY,
    Action,
    Mode,
    Plan,
    Remote,
    plan_sync,
)
from colabdev.crash_points import crash_point
from colabdev.errors import ColabdevError, GuardHalted
from colabdev.models import KnownSide, TreeScan
from colabdev.services.ahead import Ahead, comparing, known_folders
from colabdev.services.remote_side import planned_marks, record_in, remote_of, with_arrived
from colabdev.services.sync_answers import Comparison, parse_comparison, parse_failures
from colabdev.services.sync_outputs import outputs_to_bring
from colabdev.services.sync_report import SyncReport, is_note
from colabdev.services.transfer import Answer, Done, Transfer, may_be_patched, sort_out

PUSHED_BYTES = 512 * 1024
"""So much content is sent unasked, in the hope that nothing changed there."""
_PUSHED_CHANGES = 2000


def _any_amount(size_bytes: int) -> None:
    """Where nobody counts them."""


@dataclass(frozen=True, slots=True)
class SyncOptions:
    """How far a sync goes."""

    dry_run: bool = False
    force: bool = False
    """Go on where the guard would halt."""
    mode: Mode = TWO_WAY
    outputs: bool = True
    """Whether outputs are brought here."""
    send: bool = True
    """Whether what is here goes there, too; without, edits only come home."""
    check_amount: Callable[[int], None] = _any_amount
    """Raises when so many bytes are not to go over the way there is."""

    @property
    def brings_outputs(self) -> bool:
        return self.outputs and not self.mode.one_way


@dataclass(frozen=True, slots=True)
class Known:
    """What is believed of the runtime's side."""

    side: KnownSide | None
    read_ancestor: Callable[[KnownSide], Mapping[str, str] | None]

    def ancestor(self) -> Mapping[str, str] | None:
        """What both sides last had, by path; None when nobody knows."""
        return self.read_ancestor(self.side) if self.side is not None else None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it, and what to believe of the runtime's side from now on."""

    report: SyncReport
    side: KnownSide | None = None
    """None: as before."""
    ancestor: Mapping[str, str] = field(default_factory=dict)
    again: bool = False
    """Rules came from the runtime: the rest is to be done by them."""


class Exchange:
    """One sync. It may be interrupted anywhere; the next one finds what is left to do."""

    def __init__(
        self,
        transfer: Transfer,
        scan: TreeScan,
        options: SyncOptions,
        known: Known,
        ahead: Ahead | None = None,
    ) -> None:
        self._transfer = transfer
        self._scan = scan
        self._options = options
        self._known = known
        self._local = {entry.path: entry for entry in scan.entries}
        self._marks = {path: entry.fingerprint for path, entry in self._local.items()}
        """The fingerprint of each file here."""
        self._wanted = hash_fingerprints(self._marks)
        self._folders = known_folders(transfer.tree, scan, known.side)
        self._ahead = ahead
        self._arguments = comparing(
            transfer.place,
            rules=rules.key_of(scan.rules),
            tree=self._wanted,
            side=known.side,
            folders=self._folders,
        )

    def go(self) -> Outcome:
        """Make both sides equal, as far as the options go."""
        pushed = self._push()
        if isinstance(pushed, Outcome):
            return pushed
        comparison = pushed or self._foreseen() or self._ask("sync.compare")
        if comparison.same and not (comparison.files or comparison.outputs or comparison.folders):
            return self._nothing_to_do(comparison)
        ancestor: Mapping[str, str] | None = {}
        if comparison.changed_only:
            ancestor = self._known.ancestor()
            if ancestor is None:
                self._arguments["ancestor"] = ""
                comparison, ancestor = self._ask("sync.compare"), {}
        if comparison.bare:
            self._arguments["rules_text"] = self._scan.rules
        remote = remote_of(ancestor or {}, comparison)
        remote = with_arrived(remote, comparison, self._local)
        plan = self._plan(remote)
        self._halt_at(plan)
        return self._carry_out(plan, comparison, remote)

    def pull(self, path: str) -> Outcome:
        """Fetch what lies at `path` there, ignored or not; what was edited here is a conflict."""
        arguments = {**self._transfer.place, "path": path}
        answer, body = self._transfer.agent.request("sync.find", arguments)
        comparison = parse_comparison(self._transfer.checked(answer), body)
        if not comparison.outputs and not comparison.problems:
            raise ColabdevError(
                f"cannot fetch {path!r}: nothing of that name is in the work dir",
                hint=f"colabdev ssh -- ls {self._transfer.place['workdir']} shows what is",
            )
        outcome = self._carry_out(Plan((), (), (), 0, ""), comparison, Remote({}, {}))
        return Outcome(outcome.report)

    # --- asking ---

    def _foreseen(self) -> Comparison | None:
        """What was asked ahead, if that is answered to the purpose."""
        ahead, self._ahead = self._ahead, None
        return ahead.take(self._arguments) if ahead is not None else None

    def _ask(self, kind: str, body: bytes = b"") -> Comparison:
        return self._compared(*self._transfer.agent.request(kind, self._arguments, body))

    def _compared(self, answer: Answer, body: bytes) -> Comparison:
        """The comparison in an answer; asked for once more when the agent does not know the rules."""
        if answer.get("unknown_rules"):
            self._arguments["rules_text"] = self._scan.rules
            answer, body = self._transfer.agent.request("sync.compare", self._arguments)
        return parse_comparison(self._transfer.checked(answer), body)

    def _push(self) -> Outcome | Comparison | None:
        """Send what changed here unasked, if that is little, and nothing else is known to be to do.
        None when it is not so; a comparison when the runtime says that it is not."""
        side = self._known.side
        if self._options.dry_run or not self._options.send:
            return None
        if side is None or self._wanted == side.local:
            return None
        ancestor = self._known.ancestor() if side.ancestor == side.tree else None
        if ancestor is None:
            return None
        remote = remote_of(ancestor)
        plan = self._plan(remote)
        actions = self._pushed(plan)
        if not actions:
            return None
        steps = (action.change for action in actions)
        body = changes.pack_body(steps, self._transfer.tree.read)
        self._transfer.agent.ask("sync.push", self._arguments, body)
        if self._ahead is not None:
            self._ahead.drop()
        answer, found = self._transfer.agent.answer("sync.push")
        if "failures" not in self._transfer.checked(answer):
            return self._compared(answer, found)
        done, again = sort_out(actions, parse_failures(answer))
        answer, done = self._transfer.send_whole(self._arguments, answer, done, again)
        done += Done(problems=self._scan.problems)
        return self._outcome(done.loud(), plan, remote, answer, self._folders)

    def _pushed(self, plan: Plan) -> list[Action]:
        """What is sent unasked; nothing when it is too much, or needs somebody to look at it."""
        if plan.guard or len(plan.there) > _PUSHED_CHANGES:
            return []
        least = sum(a.content_bytes for a in plan.there if not may_be_patched(a.change))
        if least > PUSHED_BYTES:
            return []
        actions = [self._transfer.patched(action) for action in plan.there]
        actions = FolderPlan(kept=tuple(self._folders)).around(actions, here=False)
        return actions if sum(a.content_bytes for a in actions) <= PUSHED_BYTES else []

    # --- planning ---

    def _plan(self, remote: Remote) -> Plan:
        gone = [path for path in remote.files if path not in self._local]
        side = self._known.side
        return plan_sync(
            self._local,
            remote,
            self._transfer.tree.absences(gone),
            self._options.mode,
            replaced=side is not None and side.root not in (0, self._scan.root),
        )

    def _halt_at(self, plan: Plan) -> None:
        if plan.guard and not self._options.force and not self._options.dry_run:
            hint = "colabdev sync --dry-run lists them; colabdev sync --force deletes them"
            if any(action.change.op == changes.DELETE for action in plan.here):
                hint += "; --one-way sends yours again"
            workdir = self._transfer.place["workdir"]
            raise GuardHalted(f"halted: {plan.guard}; the work dir is {workdir}", hint=hint)

    def _plan_folders(self, comparison: Comparison, remote: Remote, plan: Plan) -> FolderPlan:
        if not comparison.folders:
            return FolderPlan(kept=tuple(self._folders))
        look = self._transfer.tree.folder
        files = {path for path, file in remote.files.items() if file.now} - _deleted(plan.there)
        files |= self._local.keys() - _deleted(plan.here)
        pairs = [
            FolderPair(path, placed, look(path), there, blocked=not files.isdisjoint(upward(path)))
            for path, placed, there in comparison.folders
        ]
        return plan_folders(pairs, self._folders, self._options.mode)

    # --- doing ---

    def _carry_out(self, plan: Plan, comparison: Comparison, remote: Remote) -> Outcome:
        look = self._transfer.tree.look
        outputs, conflicts = outputs_to_bring(comparison, self._options.mode.prefer, look)
        here = [*plan.here, *(action for action in outputs if action.here)]
        there = [*plan.there, *(action for action in outputs if not action.here)]
        folders = self._plan_folders(comparison, remote, plan)
        here, there = folders.around(here, here=True), folders.around(there, here=False)
        if not self._options.send:
            there = list(filter(is_note, there))
        rule_files = [action for action in plan.here if rules.is_rule_file(action.path)]
        if rule_files and not self._options.dry_run:
            here, there = rule_files, []
        strange = unportable([action.path for action in here], self._local)
        here = [action for action in here if action.path not in strange]
        told = Done(
            conflicts=(*plan.conflicts, *conflicts),
            problems=(*self._scan.problems, *_problems(comparison), *strange.items()),
        )
        if self._options.dry_run:
            done = Done(actions=tuple(here)) + self._transfer.check(self._arguments, there)
            done = done.loud()
            wanted = self._hash(planned_marks(remote, plan))
            report = self._report(told + done, plan.unchanged, comparison.tree, wanted)
            return Outcome(replace(report, guard=plan.guard))
        if self._options.send:  # What comes home at the end must come, whatever it costs.
            self._options.check_amount(sum(action.content_bytes for action in [*here, *there]))
        received = self._transfer.receive(here)
        if received.actions:
            crash_point("sync.received")
        notes = [_note(action) for action in received.actions if not _is_about_folder(action)]
        answer: Answer = {"tree": comparison.tree, "ancestor": comparison.ancestor}
        sent = Done()
        if there or notes:
            answer, sent = self._transfer.send(self._arguments, [*there, *notes], comparison.staged)
        outcome = self._outcome((told + received + sent).loud(), plan, remote, answer, folders.kept)
        if not self._options.send:
            outcome = Outcome(outcome.report)  # Nobody may take the runtime for having all of it.
        return replace(outcome, again=bool(rule_files and received.actions))

    # --- telling ---

    def _nothing_to_do(self, comparison: Comparison) -> Outcome:
        done = Done(problems=(*self._scan.problems, *_problems(comparison)))
        report = self._report(done, len(self._local), comparison.tree, self._wanted)
        side = KnownSide(
            self._wanted, self._wanted, self._wanted, self._scan.root, tuple(self._folders)
        )
        if self._options.dry_run or side == self._known.side:
            return Outcome(report)
        return Outcome(report, side, self._marks)

    def _hash(self, marks: Mapping[str, str]) -> str:
        """The hash of that tree. Mostly it is the one here, and that takes a while for a large one."""
        return self._wanted if marks == self._marks else hash_fingerprints(marks)

    def _outcome(
        self, done: Done, plan: Plan, remote: Remote, answer: Answer, folders: Sequence[str]
    ) -> Outcome:
        tree, ancestor = str(answer.get("tree", "")), str(answer.get("ancestor", ""))
        report = self._report(done, plan.unchanged, tree, self._hash(planned_marks(remote, plan)))
        marks = {path: file.placed for path, file in remote.files.items() if file.placed}
        local = dict(self._marks)
        for action in done.actions:
            if not action.output and not _is_about_folder(action):
                record_in(marks, action)
                if action.here:
                    record_in(local, action)
        if self._hash(marks) != ancestor:
            return Outcome(report)
        here = self._hash(local)
        side = KnownSide(ancestor, tree, here, self._scan.root, tuple(folders))
        return Outcome(report, side, marks)

    def _report(self, done: Done, unchanged: int, tree: str, wanted: str) -> SyncReport:
        return SyncReport(
            runtime="",
            workdir=str(self._transfer.place["workdir"]),
            tree_hash=tree,
            sent_tree=wanted,
            actions=done.actions,
            conflicts=done.conflicts,
            problems=tuple(sorted(set(done.problems))),
            undone=done.undone,
            unchanged=unchanged,
            dry_run=self._options.dry_run,
        )


def _note(action: Action) -> Action:
    """What the agent writes down once something is here."""
    change = action.change
    if change.entry is None:
        noted = Change(changes.FORGET, change.path, NOTHING)
    else:
        op = changes.BROUGHT if action.output else changes.KEEP
        noted = Change(op, change.path, change.fingerprint, change.entry)
    return replace(action, change=noted, here=False, quiet=True)


def _deleted(actions: Sequence[Action]) -> set[str]:
    return {action.path for action in actions if action.change.op == changes.DELETE}


def _is_about_folder(action: Action) -> bool:
    return action.change.op in changes.FOLDER_OPS


def _problems(comparison: Comparison) -> Sequence[tuple[str, str]]:
    return [(path, f"on the runtime, {reason}") for path, reason in comparison.problems]
