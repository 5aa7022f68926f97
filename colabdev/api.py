"""Runtimes and jobs for programs: what the command line does, as objects.

    import colabdev

    runtime = colabdev.connect("local")
    job = runtime.run(["train.py", "--epochs", "3"])
    for line in job:
        print(line)
    print(job.wait())

It stands where Python stands: the project and the files of a job are those of the current directory, as
on the command line. Whatever goes wrong is a `ColabdevError` with a sentence and a hint. Nothing is
printed; `progress` is told each step.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING

from colabdev.agent import jobdir
from colabdev.cli.requests import ask_around, connect_request, run_request
from colabdev.cli.wiring import Wiring
from colabdev.core.job_records import own_status
from colabdev.core.signals import parse_signal
from colabdev.core.text_lines import text_lines
from colabdev.errors import ColabdevError

if TYPE_CHECKING:
    from colabdev.models import JobRecord
    from colabdev.services.sync_report import SyncReport

Progress = Callable[[str], None]


def connect(
    name: str | None = None,
    *,
    provider: str | None = None,
    host: str | None = None,
    python: str | None = None,
    progress: Progress = lambda step: None,
) -> Runtime:
    """Start the runtime, or reconnect to it; the arguments are those of `colabdev connect`."""
    if sys.getfilesystemencoding() != "utf-8":
        raise ColabdevError(
            "cannot name files here: this Python's file names are not UTF-8",
            hint="start Python with PYTHONUTF8=1",
        )
    wiring = Wiring(meter=lambda word, done, total: None)
    request = connect_request(wiring, name, provider, python, host)
    wiring.runtimes().connect(request, progress)
    return Runtime(request.name, wiring, progress)


class Runtime:
    """A runtime that is up. As a context manager it is given back at the end of the block."""

    def __init__(self, name: str, wiring: Wiring, progress: Progress) -> None:
        """Made by `connect`."""
        self.name = name
        self._wiring = wiring
        self._progress = progress

    def __repr__(self) -> str:
        return f"<Runtime {self.name}>"

    def __enter__(self) -> Runtime:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.down()

    def run(
        self,
        words: Sequence[str],
        *,
        module: str | None = None,
        name: str | None = None,
        env: Mapping[str, str] | None = None,
        timeout: str | None = None,
        after: Sequence[Job] = (),
        after_ok: Sequence[Job] = (),
        in_place: bool = False,
        sync: bool = True,
    ) -> Job:
        """Start a job and leave it alone: it outlives this program.

        `words` are SCRIPT and its arguments; those of `module` when that is named. Otherwise as
        `colabdev run`, which syncs first.
        """
        request = run_request(
            words,
            module=module,
            runtime=self.name,
            name=name,
            env=[f"{key}={value}" for key, value in (env or {}).items()],
            timeout=timeout,
            in_place=in_place,
            sync=sync,
            window=None,
            stdin=jobdir.NO_INPUT,
            terminal={},
        )
        request = ask_around(
            self._wiring,
            request,
            secrets=(),
            after=[job.id for job in after],
            after_ok=[job.id for job in after_ok],
            progress=self._progress,
        )
        starter = self._wiring.starts().starter()
        start = starter.prepare(request, self._progress)
        starter.start(start, self._progress)
        return Job(start.job.id, self._wiring, self._progress)

    def jobs(self) -> list[Job]:
        """The jobs of this runtime that are known here, newest first."""
        listing = self._wiring.jobs().ps(self._progress)
        ids = [job.id for job in listing.jobs if job.runtime == self.name]
        return [Job(job_id, self._wiring, self._progress) for job_id in ids]

    def job(self, word: str) -> Job:
        """The job of that id, or of one that begins so."""
        found = self._wiring.jobs().find(word, self._progress)
        return Job(found.id, self._wiring, self._progress)

    def sync(self, *, prefer: str | None = None, force: bool = False) -> SyncReport:
        """Bring the project here and there in step.

        Conflicts and what could not be synced stand in the report, which then is not `is_complete`;
        `prefer` ("local" or "remote") decides them. `force` also deletes what looks like deleted by
        accident.
        """
        wiring = self._wiring
        files = wiring.sync()
        project = files.project()
        mode = files.mode(prefer, one_way=False, mirror=False)
        options = files.options(mode, dry_run=False, force=force)
        record = wiring.known_runtimes().choose(self.name, project.path)
        return files.syncer().sync_project(record, project, options, self._progress)

    def down(self, *, force: bool = False) -> None:
        """Give the runtime back; its jobs end. NotSafeToRelease when that would lose edits, unless
        `force` says to."""
        bring_home = partial(self._wiring.drive().homecoming().bring, force=force)
        for release in self._wiring.releases().down([self.name], self._progress, bring_home):
            if release.error is not None:
                raise release.error


class Job:
    """A job on a runtime. Iterated, it gives the lines of its log as text, as they are written, from
    the first one to the job's end, each time anew; a cut of the connection is not seen. See
    `core.text_lines` for what a line is; `log` has the bytes.

    As a context manager it belongs to the block: at its end it is waited for, and an exception that
    leaves the block stops it.
    """

    def __init__(self, job_id: str, wiring: Wiring, progress: Progress) -> None:
        """Made by `Runtime`."""
        self.id = job_id
        self._wiring = wiring
        self._progress = progress

    def __repr__(self) -> str:
        return f"<Job {self.id}>"

    def __enter__(self) -> Job:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.wait()
        else:
            self.stop()

    def __iter__(self) -> Iterator[str]:
        return text_lines(self.log())

    def log(self) -> Iterator[bytes]:
        """The bytes of its log as they come, from the first one to the job's end."""
        return self._wiring.jobs().follow(self._known(), self._progress, wait=True)

    def wait(self) -> int:
        """Its exit status once it has ended, 128+n for a signal. RuntimeLost when the machine went
        before; ColabdevError when nobody saw how it ended."""
        for _ in self.log():
            pass
        return own_status(self._known())

    def status(self) -> JobRecord:
        """How it stands now: `state`, `exit_code`, `signal`, `started`, `ended` and more."""
        return self._wiring.jobs().look(self._known())

    def stop(
        self, *, signal: str = jobdir.DEFAULT_SIGNAL, grace_s: float = jobdir.DEFAULT_GRACE_S
    ) -> JobRecord:
        """The signal, and after the grace KILL to all that it started; how it stands then."""
        name = parse_signal(signal)
        return self._wiring.jobs().stop(self._known(), grace_s=grace_s, signal=name)

    def _known(self) -> JobRecord:
        return self._wiring.jobs().find(self.id, self._progress)
