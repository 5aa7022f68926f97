"""Bringing a project's files to its work dir on a runtime: scan, plan, guard, apply."""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from colabdev.agent import changes
from colabdev.agent.tree import Problem, check_name, hash_entries
from colabdev.core.names import check_project_name
from colabdev.core.reconcile import Action, Conflict, OwnedFile, Plan, plan_up
from colabdev.core.sizes import format_size
from colabdev.core.workdirs import usable_machine, workdir_of
from colabdev.errors import ColabdevError, GuardHalted, ProtocolError
from colabdev.models import ProjectLink, RuntimeRecord, SyncOptions, TreeScan
from colabdev.ports import AgentStream, Keepers, LocalTree, Progress, RuntimeStore

_MAX_ANSWER_BYTES = 512 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class SyncedProject:
    """The project that is to be synced."""

    path: str
    name: str
    tree: LocalTree


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What a sync did, or with `dry_run` would do, and what it could not."""

    runtime: str
    workdir: str
    tree_hash: str
    """The hash of the files that sync owns in the work dir now."""
    sent_tree: str
    """The hash of the project's files as they were scanned for this sync; equal when all is well."""
    actions: tuple[Action, ...] = ()
    conflicts: tuple[Conflict, ...] = ()
    problems: tuple[Problem, ...] = ()
    undone: tuple[str, ...] = ()
    """The files that the runtime did not take; why is among the problems."""
    unchanged: int = 0
    wire_bytes: int = 0
    seconds: float = 0.0
    dry_run: bool = False
    guard: str = ""
    """Why the same without `dry_run` would halt."""

    @property
    def sent(self) -> tuple[Action, ...]:
        """The files and links that were sent."""
        return tuple(
            action for action in self.actions if action.op in (changes.SEND, changes.MAKE_LINK)
        )

    @property
    def sent_bytes(self) -> int:
        return sum(action.content_bytes for action in self.actions)

    @property
    def deleted(self) -> int:
        return sum(action.op == changes.DELETE for action in self.actions)

    @property
    def is_complete(self) -> bool:
        """Whether everything was done."""
        return not self.conflicts and not self.problems and not self.guard


@dataclass(frozen=True, slots=True)
class Expected:
    """What a work dir holds when nothing has to be synced."""

    tree: str
    marker: Mapping[str, str]
    problems: tuple[Problem, ...]


class Syncer:
    """`sync`. Each step may be interrupted anywhere; the next sync finds what is left to do."""

    def __init__(
        self, *, store: RuntimeStore, keepers: Keepers, computer_id: Callable[[], str]
    ) -> None:
        self._store = store
        self._keepers = keepers
        self._computer_id = computer_id

    def sync_project(
        self,
        record: RuntimeRecord,
        project: SyncedProject,
        options: SyncOptions,
        progress: Progress,
    ) -> SyncReport:
        """Make the work dir equal to the project, except for what was edited there.

        One round trip when nothing changed. Raises `GuardHalted` before anything is done that looks
        like an accident, or in a work dir that is not this project's.
        """
        begun = time.monotonic()
        check_project_name(project.name)
        workdir = workdir_of(record, project.path, project.name)
        scan = project.tree.scan()
        place = {
            "workdir": workdir,
            "marker": self.marker(project),
            "drive_dir": usable_machine(record).drive_dir,
        }
        agent = self._keepers.ensure(record.name).agent()
        try:
            run = _Run(agent, place, project.tree, scan, progress)
            report = run.go(options)
        finally:
            agent.close()
        if not options.dry_run:
            self._remember(record, project, workdir)
        return replace(
            report,
            runtime=record.name,
            wire_bytes=agent.wire_bytes,
            seconds=time.monotonic() - begun,
        )

    def expected(self, project: SyncedProject) -> Expected:
        """What the work dir should hold; asks nobody."""
        scan = project.tree.scan()
        return Expected(hash_entries(scan.entries), self.marker(project), scan.problems)

    def marker(self, project: SyncedProject) -> Mapping[str, str]:
        """What says of a work dir that it is this project's."""
        return {"computer": self._computer_id(), "project": project.path}

    def _remember(self, record: RuntimeRecord, project: SyncedProject, workdir: str) -> None:
        if any(link.path == project.path for link in record.projects):
            return
        link = ProjectLink(project.path, workdir, datetime.now(UTC))
        self._store.update(record.name, lambda known: known.with_project(link))


class ProjectCode:
    """The project one stands in, as the jobs that run its code need it."""

    def __init__(self, syncer: Syncer, project: Callable[[], SyncedProject]) -> None:
        self._syncer = syncer
        self._project = project

    def expected(self) -> Expected:
        """What the work dir holds when nothing has to be synced."""
        return self._syncer.expected(self._project())

    def marker(self) -> Mapping[str, str]:
        """What says of a work dir that it is this project's."""
        return self._syncer.marker(self._project())

    def bring(self, runtime: RuntimeRecord, progress: Progress) -> SyncReport:
        """Sync, with the default options."""
        return self._syncer.sync_project(runtime, self._project(), SyncOptions(), progress)


class _Run:
    """One sync over one agent."""

    def __init__(
        self,
        agent: AgentStream,
        place: Mapping[str, object],
        tree: LocalTree,
        scan: TreeScan,
        progress: Progress,
    ) -> None:
        self._agent = agent
        self._place = place
        self._tree = tree
        self._scan = scan
        self._wanted = hash_entries(scan.entries)
        self._progress = progress

    def go(self, options: SyncOptions) -> SyncReport:
        arguments = {**self._place, "tree": self._wanted}
        answer, body = self._agent.request("sync.compare", arguments)
        self._check(answer)
        found, same = answer.get("tree"), answer.get("same")
        if not isinstance(found, str) or not isinstance(same, bool):
            raise ProtocolError("cannot understand how the agent compares: no tree")
        if same:
            return self._report(found, unchanged=len(self._scan.entries), dry_run=options.dry_run)
        plan = self._plan(_parse_owned(body), options)
        if plan.guard and not options.force and not options.dry_run:
            raise GuardHalted(
                f"halted: {plan.guard} from {self._place['workdir']}",
                hint="colabdev sync --dry-run lists them; colabdev sync --force deletes them",
            )
        report = self._report(found, plan=plan, dry_run=options.dry_run)
        if options.dry_run:
            report = replace(report, guard=plan.guard)
        return self._apply(report) if plan.actions else report

    def _plan(self, owned: Mapping[str, OwnedFile], options: SyncOptions) -> Plan:
        local = {entry.path: entry for entry in self._scan.entries}
        gone = [path for path in owned if path not in local]
        absences = self._tree.absences(gone)
        return plan_up(local, owned, absences, prefer_local=options.prefer_local)

    def _apply(self, report: SyncReport) -> SyncReport:
        """Let the agent do what the report says; what it did not do moves to conflicts and problems."""
        if not report.dry_run:
            self._progress(_announcement(report))
        arguments = {**self._place, "check_only": report.dry_run}
        steps = (action.change for action in report.actions)
        read = None if report.dry_run else self._tree.read
        answer, _ = self._agent.upload("sync.apply", arguments, changes.pack(steps, read))
        self._check(answer)
        reasons = {action.path: action.reason for action in report.actions}
        conflicts, problems = [*report.conflicts], [*report.problems]
        failed, undone = set(), []
        for path, kind, detail in _parse_failures(answer):
            failed.add(path)
            if kind == "conflict":
                conflicts.append(Conflict(path, reasons.get(path, "edited"), detail))
            else:
                problems.append((path, detail))
                undone.append(path)
        return replace(
            report,
            tree_hash=str(answer.get("tree", report.tree_hash)),
            actions=tuple(action for action in report.actions if action.path not in failed),
            conflicts=tuple(conflicts),
            problems=tuple(problems),
            undone=tuple(undone),
        )

    def _report(
        self, tree_hash: str, *, dry_run: bool, plan: Plan | None = None, unchanged: int = 0
    ) -> SyncReport:
        return SyncReport(
            runtime="",
            workdir=str(self._place["workdir"]),
            tree_hash=tree_hash,
            sent_tree=self._wanted,
            actions=plan.actions if plan else (),
            conflicts=plan.conflicts if plan else (),
            problems=self._scan.problems,
            unchanged=plan.unchanged if plan else unchanged,
            dry_run=dry_run,
        )

    def _check(self, answer: Mapping[str, object]) -> None:
        workdir = self._place["workdir"]
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


def _announcement(report: SyncReport) -> str:
    if not report.sent:
        return "bringing the work dir in step"
    files = "1 file" if len(report.sent) == 1 else f"{len(report.sent)} files"
    return f"sending {files}, {format_size(report.sent_bytes)}"


def _parse_owned(body: bytes) -> Mapping[str, OwnedFile]:
    """The owned files as the agent lists them; `ProtocolError` when that is no such list."""
    try:
        text = zlib.decompressobj().decompress(body, _MAX_ANSWER_BYTES)
        return {
            check_name(path): OwnedFile(str(placed), str(now))
            for path, placed, now in json.loads(text)
        }
    except (zlib.error, ValueError, TypeError, AttributeError) as exc:
        raise ProtocolError(f"cannot understand the agent's list of files: {exc}") from exc


def _parse_failures(answer: Mapping[str, object]) -> Sequence[tuple[str, str, str]]:
    failures = answer.get("failures")
    try:
        if not isinstance(failures, list):
            raise TypeError("no list")
        return [(str(path), str(kind), str(detail)) for path, kind, detail in failures]
    except (TypeError, ValueError) as exc:
        raise ProtocolError(f"cannot understand the agent's list of failures: {exc}") from exc
