"""What stands between a runtime's release and the work that is on it: Drive, as its mirror keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing

from colabdev.core.sizes import format_size
from colabdev.errors import ColabdevError, NotSafeToRelease
from colabdev.models import Phase, ProjectLink, RuntimeRecord
from colabdev.ports import AgentStream, Keepers, Progress

READY_TIMEOUT_S = 15.0
FLUSH_TIMEOUT_S = 180.0


class Safekeeping:
    """Sees that what is on a runtime is also somewhere else."""

    def __init__(self, keepers: Keepers) -> None:
        self._keepers = keepers

    def hand_over(self, runtime: RuntimeRecord, progress: Progress, *, force: bool = False) -> None:
        """Have Drive handed every project of the runtime as it is now.

        Raises `NotSafeToRelease` when Drive cannot take one that holds edits which never came here,
        unless `force`. A runtime that cannot be asked is said to be so, and no reason to keep paying.
        """
        machine = runtime.machine
        if machine is None or runtime.phase is Phase.LOST or not runtime.projects:
            return
        if machine.ssh.login is not None:
            return  # A host of the user's own keeps its files.
        try:
            keeper = self._keepers.ensure(runtime.name)
            keeper.wait_ready(READY_TIMEOUT_S)
            agent = keeper.agent()
        except ColabdevError as exc:
            progress(f"cannot ask {runtime.name} what Drive has of its projects: {exc.message}")
            return
        with closing(agent):
            for link in runtime.projects:
                place = {"workdir": link.workdir, "drive_dir": machine.drive_dir}
                try:
                    told = _flush(agent, place, link, progress)
                except ColabdevError as exc:
                    progress(f"cannot learn what Drive has of {link.workdir}: {exc.message}")
                    return
                _judge(runtime, link, told, progress, force=force)

    def describe(self, runtime: RuntimeRecord) -> list[tuple[ProjectLink, str, bool]]:
        """How Drive stands with each project of a runtime that answers: in words, and whether well."""
        if runtime.machine is None or runtime.machine.drive_dir is None:
            return []
        with closing(self._keepers.agent(runtime.name)) as agent:
            return [(link, *describe_mirror(agent, link)) for link in runtime.projects]


def _flush(
    agent: AgentStream, place: Mapping[str, object], link: ProjectLink, progress: Progress
) -> Mapping[str, object]:
    arguments = {**place, "timeout_s": FLUSH_TIMEOUT_S}
    for number, (header, _) in enumerate(agent.stream("mirror.flush", arguments)):
        if header.get("end"):
            return header
        if number == 1:  # It takes longer than a moment.
            progress(f"handing {link.workdir} to Drive")
    raise AssertionError("the agent's stream ends with `end`, or raises")


def _judge(
    runtime: RuntimeRecord,
    link: ProjectLink,
    told: Mapping[str, object],
    progress: Progress,
    *,
    force: bool,
) -> None:
    problem, count = told.get("problem"), told.get("away_count")
    stored = told.get("stored")
    if isinstance(stored, list) and len(stored) == 3:
        progress(f"handed {link.workdir} to Drive, {format_size(int(stored[1]))}")
    if not problem and not count:
        return
    if not count:
        if runtime.machine is not None and runtime.machine.drive_dir is not None:
            progress(f"Drive was not handed {link.workdir}: {problem}; all of it came from here")
        return
    names = told.get("away")
    named = ", ".join(map(str, names[:3])) if isinstance(names, list) else ""
    many = f"{count} files" if count != 1 else "1 file"
    reason = problem or "too large for the project's archive on Drive"
    sentence = f"{many} in {link.workdir} with edits that are nowhere else ({named}): {reason}"
    if force:
        progress(f"giving up {sentence}")
        return
    raise NotSafeToRelease(
        f"cannot release {runtime.name!r}: it has {sentence}",
        hint="colabdev sync brings them here (--max-size, the large ones); "
        f"colabdev down {runtime.name} --force gives them up",
    )


def describe_mirror(agent: AgentStream, link: ProjectLink) -> tuple[str, bool]:
    """How Drive stands with that project, in words, and whether well."""
    answer, _ = agent.request("mirror.status", {"workdir": link.workdir})
    told = answer.get("mirror")
    if not isinstance(told, dict):
        return "nothing of it was handed to Drive yet", True
    state, problem = str(told.get("state")), str(told.get("problem") or "")
    since = str(told.get("since"))[:19]
    if problem:
        return f"{problem}, since {since}Z; it is tried again", False
    if not answer.get("runs"):
        return "nobody stores edits that are made there", False
    return {
        "current": "Drive was handed all of it",
        "waiting": f"changed at {since}Z, and goes to Drive soon",
        "storing": f"being handed to Drive since {since}Z",
    }.get(state, state), True
