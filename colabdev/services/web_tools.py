"""TensorBoard and Jupyter: started on the runtime as jobs, which outlive this computer's interest."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from colabdev.agent import jobdir
from colabdev.config.scripts import Program
from colabdev.core.web_tools import FIRST_PORT, LAST_PORT, WebTool
from colabdev.errors import ColabdevError, RuntimeLost, RuntimeUnreachable
from colabdev.models import JobRecord, RuntimeRecord
from colabdev.ports import Progress
from colabdev.services.forwards import Forwards
from colabdev.services.jobs import Jobs
from colabdev.services.starts import JobStarter, RunRequest

_START_TIMEOUT_S = 120.0
_POLL_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A tool's page on a runtime, running or about to be started."""

    tool: WebTool
    runtime: RuntimeRecord
    port: int
    """There."""
    token: str
    """"" when it asks for none."""
    job: JobRecord | None
    """None before it is started."""

    def url(self, local_port: int) -> str:
        """Where a browser of this computer finds it."""
        return f"http://127.0.0.1:{local_port}/{f'?token={self.token}' if self.token else ''}"


class WebTools:
    """Finds or starts a tool, and waits for its page."""

    def __init__(
        self,
        *,
        jobs: Jobs,
        starter: JobStarter,
        forwards: Forwards,
        make_token: Callable[[str, int], str],
    ) -> None:
        self._jobs = jobs
        self._starter = starter
        self._forwards = forwards
        self._make_token = make_token

    def find(self, tool: WebTool, runtime: RuntimeRecord, progress: Progress) -> Page:
        """The page of the job that runs already, else of one that is to be started."""
        for job in self._jobs.ps(progress).jobs:
            port = tool.port_of(job.argv)
            there = (job.runtime, job.request_id) == (runtime.name, runtime.request_id)
            if port is not None and there and not job.state.is_end:
                return self._page(tool, runtime, port, job)
        return self._page(tool, runtime, random.randint(FIRST_PORT, LAST_PORT), None)

    def start(
        self,
        page: Page,
        project: tuple[str | None, str | None],
        env: Mapping[str, str],
        progress: Progress,
    ) -> Page:
        """Start it unless it runs, and wait until it answers. `project`: its path and its name."""
        job = page.job
        if job is None:
            secret = {page.tool.token_variable: page.token} if page.token else {}
            request = RunRequest(
                _program(page.tool, page.port),
                page.runtime.name,
                *project,
                env={**env, **secret},
                sync=False,  # It looks at what is there.
            )
            start = self._starter.prepare(request, progress)
            job = start.job
            progress(f"starting {page.tool.name} on {page.runtime.name}, job {job.id}")
            self._starter.start(start, progress)
        self._wait(page, job, progress)
        return replace(page, job=job)

    def _page(
        self, tool: WebTool, runtime: RuntimeRecord, port: int, job: JobRecord | None
    ) -> Page:
        token = self._make_token(runtime.request_id, port) if tool.token_variable else ""
        return Page(tool=tool, runtime=runtime, port=port, token=token, job=job)

    def _wait(self, page: Page, job: JobRecord, progress: Progress) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not self._answers(page):
            if self._jobs.standing(job).is_end:
                raise self._ended(page.tool, job, progress)
            if time.monotonic() > deadline:
                raise ColabdevError(
                    f"{page.tool.name} does not listen {_START_TIMEOUT_S:.0f} s after its start; "
                    "it runs on",
                    hint=f"colabdev logs {job.id}",
                )
            time.sleep(_POLL_S)

    def _answers(self, page: Page) -> bool:
        try:
            self._forwards.open(page.runtime.name, "127.0.0.1", page.port).close()
        except (RuntimeUnreachable, RuntimeLost):
            raise
        except ColabdevError:
            return False  # Nobody listens there yet.
        return True

    def _ended(self, tool: WebTool, job: JobRecord, progress: Progress) -> ColabdevError:
        log = b"".join(self._jobs.follow(job, progress, wait=False))
        ended = self._jobs.jobs.load(job.id)
        if ended is not None and ended.exit_status == 127:
            return ColabdevError(
                f"cannot start {tool.name} on {job.runtime}: it is not installed there",
                hint=tool.install,
            )
        last = log.decode("utf-8", "replace").strip().rpartition("\n")[2]
        return ColabdevError(
            f"{tool.name} ended as it started" + (f": {last}" if last else ""),
            hint=f"colabdev logs {job.id}",
        )


def _program(tool: WebTool, port: int) -> Program:
    argv, typed = (*tool.argv, str(port)), (*tool.typed, str(port))
    return Program(tool.name, jobdir.COMMAND, argv, typed)
