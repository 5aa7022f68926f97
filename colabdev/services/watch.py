"""`sync --watch`: keeping a project and its work dir in step for as long as somebody wants it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Protocol

from colabdev.agent import rules
from colabdev.agent.tree import Problem
from colabdev.core.reconcile import Conflict
from colabdev.core.workdirs import workdir_of
from colabdev.errors import ColabdevError, GuardHalted, RuntimeNotFound, RuntimeUnreachable
from colabdev.models import RuntimeRecord
from colabdev.ports import AgentStream, Keepers, Progress, RuntimeStore, SyncedProject, TreeWatch
from colabdev.services.exchange import SyncOptions
from colabdev.services.sync import Syncer
from colabdev.services.sync_report import SyncReport, is_note

RETRY_FIRST_S = 1.0
RETRY_CAP_S = 60.0
"""Between two tries while something stands in the way: each costs a look at all files, or a process."""
UNASKED_S = 300.0
"""A sync for which nobody saw a reason: nothing tells of a file that is written and never closed."""
_WAKE_S = 1.0
_SETTINGS = "colabdev.toml"

Complaint = tuple[tuple[Conflict, ...], tuple[Problem, ...]]


class Audience(Protocol):
    """Who is told of what a watch does."""

    def noted(self, sentence: str) -> None:
        """Something that is good to know, once."""

    def synced(self, report: SyncReport) -> None:
        """A sync did something, or complains of something else than the last one."""

    def held(self, error: ColabdevError) -> None:
        """It cannot go on now; it tries again by itself."""

    def resumed(self) -> None:
        """It goes on."""


@dataclass(frozen=True, slots=True)
class News:
    """What was noticed since somebody asked."""

    here: frozenset[str] = frozenset()
    """The paths that changed on this computer."""
    there: bool = False
    ended: Exception | None = None
    """Why nothing more will be heard from the runtime."""


class NewsDesk:
    """Where what is noticed on either side comes together."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._news = News()
        self.closed = False

    def add(
        self,
        *,
        here: frozenset[str] = frozenset(),
        there: bool = False,
        ended: Exception | None = None,
    ) -> None:
        """Something was noticed."""
        with self._changed:
            known = self._news
            self._news = News(known.here | here, known.there or there, known.ended or ended)
            self._changed.notify_all()

    def close(self) -> None:
        """Nobody asks any more."""
        with self._changed:
            self.closed = True
            self._changed.notify_all()

    def take(self, timeout_s: float) -> News:
        """What was noticed; after `timeout_s` perhaps nothing."""
        with self._changed:
            self._changed.wait_for(lambda: self.closed or self._news != News(), timeout_s)
            news, self._news = self._news, News()
            return news


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """What is kept in step."""

    runtime: str
    project: Callable[[], SyncedProject]
    """As its settings say now; `ColabdevError` when they cannot be read, or it has gone."""
    options: SyncOptions = field(default_factory=lambda: SyncOptions(outputs=False))
    """For every sync but the first."""


class Watch:
    """Syncs whenever something changes on either side, and whenever the runtime is back."""

    def __init__(
        self,
        watched: Watched,
        *,
        syncer: Syncer,
        store: RuntimeStore,
        keepers: Keepers,
        audience: Audience,
    ) -> None:
        self._watched = watched
        self._syncer = syncer
        self._store = store
        self._keepers = keepers
        self._audience = audience
        self._stopping = threading.Event()
        self._desk = NewsDesk()
        self._held = ""
        self._settings = ""
        """The fingerprint of the settings that the project was opened with."""
        self._written: dict[str, str] = {}
        """What syncs wrote here: the fingerprint at each path."""
        self._complaint: Complaint = ((), ())
        self._noted: set[str] = set()
        self._retry_s = RETRY_FIRST_S

    def begin(self, options: SyncOptions, progress: Progress) -> None:
        """The first sync, which fails as any other."""
        self._tell(self._sync(self._watched.project(), options, progress), always=True)

    def run(self) -> None:
        """Go on until stopped."""
        while not self._stopping.is_set():
            try:
                self._session()
            except ColabdevError as exc:
                self._hold(exc)
                self._stopping.wait(self._retry_s)
                self._retry_s = min(self._retry_s * 2, RETRY_CAP_S)

    def stop(self) -> None:
        """Let `run` return, soon."""
        self._stopping.set()
        self._desk.close()

    def _session(self) -> None:
        """Sync, and at each change again, until the rules may be others or something is in the way."""
        project = self._watched.project()
        self._settings = project.tree.look(_SETTINGS)
        self._attempt(project)
        record = self._record()
        place = {"workdir": workdir_of(record, project.path, project.name)}
        with closing(self._keepers.ensure(record.name).agent()) as agent:
            desk = self._desk = NewsDesk()
            here = project.tree.watch()
            _in_background(desk, lambda: self._listen_here(here, desk))
            # What was changed before both listened is seen to when this one says that it does.
            _in_background(desk, lambda: self._listen_there(agent, place, desk))
            try:
                while not self._stopping.is_set() and self._turn(project, desk.take(UNASKED_S)):
                    pass
            finally:
                desk.close()

    def _turn(self, project: SyncedProject, news: News) -> bool:
        """Sync if there is a reason; whether what is listened to is still the right thing."""
        if news.ended is not None:
            raise news.ended
        # "" is who knows what.
        if any(rules.is_rule_file(path) or path in ("", _SETTINGS) for path in news.here):
            return False
        if project.tree.look(_SETTINGS) != self._settings:
            return (
                False  # It is told in a moment; what is told already must not go by the old ones.
            )
        here = [path for path in news.here if not self._is_own(project, path)]
        if here or news.there or news == News():
            try:
                self._attempt(project)
            except GuardHalted as exc:
                self._hold(exc)  # The next change may mend it.
        return True

    def _is_own(self, project: SyncedProject, path: str) -> bool:
        """Whether that is nothing but what a sync wrote here."""
        written = self._written.get(path)
        return written is not None and project.tree.look(path) == written

    def _attempt(self, project: SyncedProject) -> None:
        project.tree.wait_for_git()
        report = self._sync(project, self._watched.options, _say_nothing)
        resumed, self._held, self._retry_s = bool(self._held), "", RETRY_FIRST_S
        if not self._tell(report) and resumed:
            self._audience.resumed()

    def _sync(self, project: SyncedProject, options: SyncOptions, progress: Progress) -> SyncReport:
        report = self._syncer.sync_project(self._record(), project, options, progress)
        brought = [action for action in report.actions if action.here]
        self._written.update({a.path: a.change.fingerprint for a in brought})
        return report

    def _record(self) -> RuntimeRecord:
        name = self._watched.runtime
        record = self._store.load(name)
        if record is None:
            raise RuntimeNotFound(
                f"no runtime is called {name!r} any more", hint=f"colabdev connect {name}"
            )
        return record

    # --- telling ---

    def _tell(self, report: SyncReport, *, always: bool = False) -> bool:
        complaint = (report.conflicts, report.problems)
        news = complaint != self._complaint or not all(map(is_note, report.actions))
        self._complaint = complaint
        if news or always:
            self._audience.synced(report)
        return news

    def _hold(self, error: ColabdevError) -> None:
        """Say once what stands in the way; a runtime that is out of reach has many ways to say so."""
        kind = "unreachable" if isinstance(error, RuntimeUnreachable) else error.message
        if kind != self._held:
            self._held = kind
            self._audience.held(error)

    def _note(self, sentence: str) -> None:
        if sentence not in self._noted:
            self._noted.add(sentence)
            self._audience.noted(sentence)

    # --- listening, in threads of their own ---

    def _listen_here(self, watch: TreeWatch, desk: NewsDesk) -> None:
        with closing(watch):
            if watch.because:
                self._note(f"looks at the files here now and then: {watch.because}")
            while not desk.closed:
                changed = watch.wait(_WAKE_S)
                if changed:
                    desk.add(here=frozenset(changed))

    def _listen_there(
        self, agent: AgentStream, place: Mapping[str, object], desk: NewsDesk
    ) -> None:
        for header, _ in agent.stream("sync.watch", place):
            if header.get("end"):
                workdir = place["workdir"]
                raise ColabdevError(f"{workdir} was removed or replaced", hint="colabdev sync")
            if header.get("because"):
                self._note(f"looks at the files there now and then: {header['because']}")
            desk.add(there=True)


def _in_background(desk: NewsDesk, listen: Callable[[], None]) -> None:
    def run() -> None:
        try:
            listen()
        except Exception as exc:  # noqa: BLE001  A boundary: whoever takes the news raises it.
            desk.add(ended=exc)

    threading.Thread(target=run, daemon=True).start()


def _say_nothing(step: str) -> None:
    """Nobody wants to hear of each step."""
