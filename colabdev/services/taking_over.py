"""Jobs of another computer's: what Drive tells of one is written down here, and from then on it goes on
as any other."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass

from colabdev.core.job_records import choose_job_id
from colabdev.core.run_records import StoredJob, as_record, parse_stored_job
from colabdev.errors import ColabdevError, JobNotFound
from colabdev.models import JobRecord, RuntimeRecord
from colabdev.models.orders import JobOrder
from colabdev.models.recovery import Consent
from colabdev.ports import JobStore, Keepers, Progress, RuntimeStore
from colabdev.ports.recovery import RecoveryStore
from colabdev.services.checkpoint_lists import StoreChoice, find_store, runs_in_store, survey_store
from colabdev.services.job_orders import machine_like
from colabdev.services.kept_jobs import KeptJobs


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What this computer adds to what Drive tells of a job."""

    project_path: str
    project_name: str
    variables: Mapping[str, str]
    """Those that may stand in a file."""
    held: tuple[str, ...]
    """The names of those that only a keeper may have."""
    resume: str | None
    """How its script is told of a checkpoint."""
    gpu: tuple[str, ...]
    """What a machine may have instead of what this one has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TakingOver:
    """Finds jobs on a runtime's Drive, and makes them this computer's."""

    runtimes: RuntimeStore
    jobs: JobStore
    plans: RecoveryStore
    keepers: Keepers
    store: StoreChoice

    def find(self, runtime: RuntimeRecord, project: str, word: str) -> StoredJob:
        """The job of that project that `word` means; JobNotFound when Drive has none such."""
        place = find_store(runtime, project, self.store)
        if place is None:
            raise JobNotFound(
                f"no job is called {word!r} here, and {runtime.name!r} has no Drive to ask",
                hint="colabdev ps lists those of this computer",
            )
        with closing(self.keepers.agent(runtime.name)) as agent:
            ids = [run.job for run in runs_in_store(agent, place)]
            try:
                job_id = choose_job_id(word, ids)
            except JobNotFound as exc:
                raise JobNotFound(
                    f"no job is called {word!r} here, nor on Drive in the project {project!r}",
                    hint="colabdev ps lists those of this computer; cd to the project that it is of",
                ) from exc
            rows = survey_store(agent, place, job_id)
        try:
            return parse_stored_job(next(row for row in rows if row.get("job") == job_id))
        except (StopIteration, ValueError) as exc:
            raise ColabdevError(
                f"cannot go on with {job_id}: what Drive has of it cannot be used: {exc}",
                hint=f"colabdev checkpoints restore {job_id} brings its checkpoints",
            ) from exc

    def write_down(
        self,
        stored: StoredJob,
        runtime: RuntimeRecord,
        here: Surroundings,
        consent: Consent | None,
        progress: Progress,
    ) -> JobRecord:
        """Make it a job of this computer's, with what Drive has of its log."""
        job = as_record(stored, runtime, consent)
        order = JobOrder(
            arguments={"spec": stored.spec},
            env=here.variables,
            held=here.held,
            resume=here.resume,
            machine=machine_like(runtime, here.gpu),
            project_path=here.project_path,
            project_name=here.project_name,
            taken_over=True,
        )
        # The job's record last: with it the job is known here, and goes on by what is beside it.
        self.plans.save_order(job.id, order)
        if stored.safe is not None:
            self.plans.note_safe(job.id, stored.safe)
        self.jobs.create(job)
        drive_dir = runtime.machine.drive_dir if runtime.machine else None
        if drive_dir is not None:
            with closing(self.keepers.agent(runtime.name)) as agent:
                KeptJobs(self.runtimes, self.jobs).bring_home(agent, drive_dir, progress)
        return self.jobs.load(job.id) or job
