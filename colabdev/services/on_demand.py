"""A runtime for one command: brought up when there is none, given back when the job has ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from colabdev.errors import ColabdevError, RuntimeNotFound, UsageError
from colabdev.models import Phase, RuntimeRecord
from colabdev.ports import Progress, Provider, RuntimeStore
from colabdev.services.jobs import Jobs
from colabdev.services.plan import ConnectRequest, accelerator_names, check_same_provider
from colabdev.services.releases import BringHome, Releases
from colabdev.services.runtimes import Runtimes

Plan = Callable[[str | None, str | None, str | None], ConnectRequest]
"""What `connect` would do for that name, that provider and that `--gpu`, as typed."""


@dataclass(frozen=True, slots=True)
class Missing:
    """There is none, and this one can be started."""

    request: ConnectRequest

    @property
    def offer(self) -> str:
        """What it is and what it costs."""
        what = {
            "local": "a sandbox on this computer, which costs nothing",
            "ssh": f"your own host {self.request.host}, which costs nothing",
            "colab": f"a Colab runtime ({self._hardware}), paid in compute units by the hour",
        }
        return f"{self.request.name!r}: {what[self.request.provider]}"

    @property
    def _hardware(self) -> str:
        wish = self.request.hardware
        return " or ".join(wish.accelerators or wish.preferred) or "the usual GPU"


@dataclass(frozen=True, slots=True, kw_only=True)
class OnDemand:
    """Finds runtimes, says what could be started, and gives back what is not needed any more."""

    runtimes: Runtimes
    releases: Releases
    store: RuntimeStore
    provider: Callable[[str], Provider]
    plan: Plan
    jobs: Jobs

    def find(
        self,
        named: str | None,
        provider: str | None,
        *,
        gpu: str | None,
        project_path: str | None,
        must_leave: bool = False,
    ) -> RuntimeRecord | Missing:
        """The runtime that is up, or what to start. ColabdevError when that cannot be had as wished;
        with `must_leave` it is to give itself back without a computer."""
        try:
            known = self._known(named, provider, project_path)
        except RuntimeNotFound:
            if named is not None:
                raise  # Perhaps a slip of the finger; only `connect` makes a name.
            known = None
        if known is not None and known.phase is not Phase.LOST:
            _check_gpu(known, gpu)
            if must_leave and not known.can_leave:
                raise _cannot_leave(known.name, known.provider)
            return known
        request = self.plan(named, provider, gpu)
        if must_leave and not request.can_leave:
            raise _cannot_leave(request.name, request.provider)
        self.provider(request.provider)  # Says so when this version, or this user, has it not.
        return Missing(request)

    def _known(
        self, named: str | None, provider: str | None, project_path: str | None
    ) -> RuntimeRecord | None:
        if provider is None:
            return self.runtimes.choose(named, project_path)
        request = self.plan(named, provider, None)
        known = self.store.load(request.name)
        if known is not None:
            check_same_provider(known, request)
        return known

    def give_back(self, job_runtime: str, bring_home: BringHome, progress: Progress) -> str:
        """Release the runtime when nothing would be lost or ended by that; else why it stays."""
        runs = [
            job.id
            for job in self.jobs.ps(progress).jobs
            if job.runtime == job_runtime and not job.state.is_end
        ]
        if runs:
            return f"not ended there: {', '.join(runs)}"
        try:
            [release] = self.releases.down([job_runtime], progress, bring_home)
        except ColabdevError as exc:
            return exc.message
        return release.error.message if release.error else ""


def _cannot_leave(name: str, provider: str) -> UsageError:
    where = {
        "local": "it sleeps with this computer",
        "ssh": "a host of your own is not given back by itself",
    }
    return UsageError(
        f"cannot give {name!r} back at the end of a job that is left alone: "
        f"{where.get(provider, 'nobody on it can')}",
        hint="leave --detach out, or type colabdev down when it has ended",
    )


def _check_gpu(runtime: RuntimeRecord, gpu: str | None) -> None:
    has = (runtime.machine.accelerator if runtime.machine else None) or "no GPU"
    if gpu is not None and not any(
        name.casefold() in has.casefold() for name in accelerator_names(gpu)
    ):
        raise UsageError(
            f"the runtime {runtime.name!r} has {has}, not {gpu!r}",
            hint="leave --gpu out, or name another runtime: -r NAME",
        )
