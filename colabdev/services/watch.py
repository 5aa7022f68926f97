"""`sync --watch`: keeping a project and its work dir in step for as long as somebody wants it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from colabdev.agent import rules
from colabdev.agent.tree import Problem
from colabdev.core.reconcile import Conflict
from colabdev.core.workdirs import workdir_of
from colabdev.errors import ColabdevError, GuardHalted, RuntimeNotFound, RuntimeUnreachable
from colabdev.models import RuntimeRecord
from colabdev.ports import Keepers, Progress, RuntimeStore, SyncedProject, TreeWatch
from colabdev.services.exchange import SyncOptions
from colabdev.services.small_steps import SmallSteps
from colabdev.services.sync import Syncer
from colabdev.services.sync_report import SyncReport, is_note
from colabdev.services.watch_line import WatchLine

RETRY_FIRST_S = 1.0
RETRY_CAP_S = 60.0
"""Between two tries while something stands in the way: each costs a look at all files, or a process."""
UNASKED_S = 300.0
"""A sync for which nobody saw a reason: nothing tells of a file that is written and never closed."""
WHOLE_AFTER_S = 60.0
"""Small steps are trusted for so long while there are any: a whole sync sees what nobody told of."""
_QUIET_S = 2.0
"""When nothing was told for so long there is time to write down what small steps did."""
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
    there: tuple[bytes, ...] = ()
    """What was done on the runtime, one for each time; see `WatchLine.listen`."""
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
        there: tuple[bytes, ...] = (),
        ended: Exception | None = None,
    ) -> None:
        """Something was noticed."""
        with self._changed:
            known = self._news
            self._news = News(known.here | here, known.there + there, known.ended or ended)
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


@dataclass(slots=True)
class _Session:
    """What is listened to, and what was synced since."""

    project: SyncedProject
    line: WatchLine
    steps: SmallSteps | None = None
    """None until a whole sync is what they can begin from."""
    _whole_at: float = 0.0

    @property
    def patience_s(self) -> float:
        """How long to wait for news before something is done without."""
        return _QUIET_S if self.steps is not None and self.steps.is_unsaved else UNASKED_S

    @property
    def is_whole_sync_due(self) -> bool:
        return time.monotonic() - self._whole_at > WHOLE_AFTER_S

    def begin(self, steps: SmallSteps) -> None:
        """A whole sync was made: go on from there."""
        self.steps, self._whole_at = steps, time.monotonic()

    def rest(self) -> bool:
        """Use the time that nothing happens in; False when there is nothing to be done."""
        if self.steps is None or not self.steps.is_unsaved:
            return False
        self.steps.save()
        return True


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
        with closing(self._keepers.agent(record.name)) as agent:
            desk = self._desk = NewsDesk()
            here = project.tree.watch()
            line = WatchLine(agent, self._syncer.place(record, project))
            _in_background(desk, lambda: self._listen_here(here, desk))
            # What was changed before both listened is seen to when this one says that it does.
            _in_background(desk, lambda: self._listen_there(line, desk))
            session = _Session(project, line)
            try:
                while not self._stopping.is_set() and self._turn(session, desk):
                    pass
            finally:
                desk.close()

    def _turn(self, session: _Session, desk: NewsDesk) -> bool:
        """Sync when there is a reason; whether what is listened to is still the right thing."""
        news = desk.take(session.patience_s)
        if news.ended is not None:
            raise news.ended
        # "" is who knows what.
        if any(rules.is_rule_file(path) or path in ("", _SETTINGS) for path in news.here):
            return False
        project = session.project
        if project.tree.look(_SETTINGS) != self._settings:
            return (
                False  # It is told in a moment; what is told already must not go by the old ones.
            )
        here = frozenset(path for path in news.here if not self._is_own(project, path))
        if here or news.there:
            if not self._step(session, here, news.there) or session.is_whole_sync_due:
                self._sync_whole(session)
        elif news == News() and not session.rest():
            self._sync_whole(session)
        return True

    def _step(self, session: _Session, here: frozenset[str], there: Sequence[bytes]) -> bool:
        """Do what is new by small steps; False when only a whole sync tells what to do."""
        steps = session.steps
        if steps is None:
            return False
        session.project.tree.wait_for_git()
        tries: list[Callable[[], SyncReport | None]] = [
            *(partial(steps.receive, body) for body in there),
            *([partial(steps.send, here)] if here else []),
        ]
        for step in tries:
            report = step()
            if report is None:
                return False
            self._remember_written(report)
            if report.actions:
                self._audience.synced(report)
        return True

    def _sync_whole(self, session: _Session) -> None:
        session.steps = None
        try:
            self._attempt(session.project)
        except GuardHalted as exc:
            self._hold(exc)  # The next change may mend it.
        else:
            record = self._record()
            workdir = workdir_of(record, session.project.path, session.project.name)
            session.begin(SmallSteps(session.project, record.name, workdir, session.line))

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
        self._remember_written(report)
        return report

    def _remember_written(self, report: SyncReport) -> None:
        brought = [action for action in report.actions if action.here]
        self._written.update({a.path: a.change.fingerprint for a in brought})

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

    def _listen_there(self, line: WatchLine, desk: NewsDesk) -> None:
        try:
            line.listen(lambda steps: desk.add(there=(steps,)), self._note)
        except RuntimeUnreachable as exc:
            # Said at once: a sync that is under way waits long for the way to be back.
            if not desk.closed:
                self._hold(exc)
            raise

    def _listen_here(self, watch: TreeWatch, desk: NewsDesk) -> None:
        with closing(watch):
            if watch.because:
                self._note(f"looks at the files here now and then: {watch.because}")
            while not desk.closed:
                changed = watch.wait(_WAKE_S)
                if changed:
                    desk.add(here=frozenset(changed))


def _in_background(desk: NewsDesk, listen: Callable[[], None]) -> None:
    def run() -> None:
        try:
            listen()
        except Exception as exc:  # noqa: BLE001  A boundary: whoever takes the news raises it.
            desk.add(ended=exc)

    threading.Thread(target=run, daemon=True).start()


def _say_nothing(step: str) -> None:
    """Nobody wants to hear of each step."""
