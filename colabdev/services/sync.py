"""Keeping a project and its work dir on a runtime in step: scan, plan, guard, apply."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial

from colabdev.agent import rules
from colabdev.agent.blocks import FROM_BYTES
from colabdev.agent.tree import FILE, Problem, hash_entries
from colabdev.core.names import check_project_name
from colabdev.core.secret_files import describe_secret_files
from colabdev.core.workdirs import usable_machine, workdir_of
from colabdev.crash_points import crash_point
from colabdev.models import ProjectLink, RuntimeRecord, TreeScan
from colabdev.ports import Keepers, Meter, Progress, RuntimeStore, SyncedProject
from colabdev.services.ahead import Ahead, known_folders
from colabdev.services.exchange import Exchange, Known, Outcome, SyncOptions
from colabdev.services.sync_report import SyncReport
from colabdev.services.transfer import Transfer

_MAX_PASSES = 4
"""Rules that come from the runtime may bring other rules within reach; nobody nests them so deep."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What a work dir holds when nothing has to be synced."""

    arguments: Mapping[str, object]
    """As `job.start` takes it: whose it is, its tree, and the rules by which that is found."""
    problems: tuple[Problem, ...]
    paths: frozenset[str] = frozenset()

    def holds(self, path: str) -> bool:
        """Whether it is one of the files, or lies behind one of the links."""
        parts = path.split("/")
        return any("/".join(parts[:count]) in self.paths for count in range(1, len(parts) + 1))

    def with_tree(self, tree: str) -> Expected:
        """The same for another tree, where folders were tried."""
        return replace(self, arguments={**self.arguments, "tree": tree, "folders": []})


class Syncer:
    """`sync`. Each step may be interrupted anywhere; the next sync finds what is left to do."""

    def __init__(
        self,
        *,
        store: RuntimeStore,
        keepers: Keepers,
        computer_id: Callable[[], str],
        meter: Meter,
        check_amount: Callable[[RuntimeRecord, int], None] = lambda runtime, size_bytes: None,
    ) -> None:
        """`check_amount` raises when so many bytes are not to go there, unless forced."""
        self._store = store
        self._keepers = keepers
        self._computer_id = computer_id
        self._meter = meter
        self._check_amount = check_amount

    def sync_project(
        self,
        record: RuntimeRecord,
        project: SyncedProject,
        options: SyncOptions,
        progress: Progress,
        pulled: str | None = None,
    ) -> SyncReport:
        """Make the work dir and the project equal, except for what both sides changed.

        One round trip when nothing changed, or little and only here. With `pulled` only what lies at
        that path there is fetched. Raises `GuardHalted` before anything is done that looks like an
        accident, or in a work dir that is not this project's.
        """
        check_project_name(project.name)
        report: SyncReport | None = None
        for _ in range(_MAX_PASSES):
            outcome = self._pass(record, project, options, progress, pulled)
            report = outcome.report.after(report) if report else outcome.report
            if not outcome.again:
                break
        assert report is not None, "there is at least one pass"
        has_drive = usable_machine(record).drive_dir is not None
        if said := describe_secret_files(report.new_there, has_drive=has_drive):
            progress(said)
        if not options.dry_run:
            project.tree.tidy()  # One that was killed may have had nothing left but this to do.
            self._remember(record, project, workdir_of(record, project.path, project.name))
        return report

    def _pass(
        self,
        record: RuntimeRecord,
        project: SyncedProject,
        options: SyncOptions,
        progress: Progress,
        pulled: str | None,
    ) -> Outcome:
        begun = time.monotonic()
        place = {**self.place(record, project), "outputs": options.brings_outputs}
        side = project.memory.load(record.name)
        known = Known(side, partial(project.memory.ancestor, record.name))
        agent = self._keepers.agent(record.name)
        try:
            ahead = None
            if pulled is None:
                ahead = Ahead(agent, place, side, rules=project.tree.rules_key())
            scan = project.tree.scan()
            transfer = Transfer(
                agent=agent, place=place, tree=project.tree, progress=progress, meter=self._meter
            )
            if not options.force:
                check = partial(self._check_amount, record)
                options = replace(options, check_amount=check)
            exchange = Exchange(transfer, scan, options, known, ahead)
            outcome = exchange.pull(pulled) if pulled is not None else exchange.go()
        finally:
            agent.close()
        crash_point("sync.applied")
        if outcome.side is not None:
            project.memory.save(record.name, outcome.side, outcome.ancestor)
            project.tree.remember_blocks(_large_files(scan))
        report = replace(
            outcome.report,
            runtime=record.name,
            wire_bytes=agent.wire_bytes,
            seconds=time.monotonic() - begun,
        )
        return replace(outcome, report=report)

    def place(self, record: RuntimeRecord, project: SyncedProject) -> Mapping[str, object]:
        """Which work dir, whose it is, and what is too large for it: arguments of every request."""
        return {
            "workdir": workdir_of(record, project.path, project.name),
            "marker": self.marker(project),
            "drive_dir": usable_machine(record).drive_dir,
            "max_bytes": project.max_bytes,
        }

    def expected(self, record: RuntimeRecord, project: SyncedProject) -> Expected:
        """What the work dir should hold; asks nobody."""
        scan = project.tree.scan()
        tree = hash_entries(scan.entries)
        known = project.memory.load(record.name)
        if known is not None and known.local == tree:
            tree = known.tree  # Not the same where one side has what cannot be synced.
        arguments = {
            "marker": dict(self.marker(project)),
            "tree": tree,
            "rules": rules.key_of(scan.rules),
            "max_bytes": project.max_bytes,
            "folders": known_folders(project.tree, scan, known),
        }
        paths = frozenset(entry.path for entry in scan.entries)
        return Expected(arguments, scan.problems, paths)

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

    def expected(self, runtime: RuntimeRecord) -> Expected:
        """What the work dir holds when nothing has to be synced."""
        return self._syncer.expected(runtime, self._project())

    def marker(self) -> Mapping[str, str]:
        """What says of a work dir that it is the project's."""
        return self._syncer.marker(self._project())

    def bring(self, runtime: RuntimeRecord, progress: Progress) -> SyncReport:
        """Sync, with the default options, but leave outputs where they are: they may be large."""
        options = SyncOptions(outputs=False)
        return self._syncer.sync_project(runtime, self._project(), options, progress)


def _large_files(scan: TreeScan) -> Mapping[str, str]:
    return {
        entry.path: entry.digest
        for entry in scan.entries
        if entry.kind == FILE and entry.size >= FROM_BYTES
    }
