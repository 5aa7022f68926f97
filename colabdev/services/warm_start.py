"""Having on a new machine, before anybody needs it, what the one before it had installed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

from colabdev.core.workdirs import usable_machine
from colabdev.errors import ColabdevError
from colabdev.models import RuntimeRecord
from colabdev.ports import Keepers, Progress


@dataclass(frozen=True, slots=True)
class WantedEnvironment:
    """What jobs require."""

    name: str
    """What the user calls it."""
    lines: Sequence[str]
    """All that it asks for, with what it includes."""


@dataclass(frozen=True, slots=True)
class WarmStart:
    """Brings to a runtime what Drive keeps for it. What fails is said, and keeps nobody from using the
    runtime: what it lacks is made when it is needed."""

    keepers: Keepers

    def bring(
        self, runtime: RuntimeRecord, wanted: WantedEnvironment | None, progress: Progress
    ) -> None:
        """The environment of the project's jobs, if Drive has it."""
        drive_dir = usable_machine(runtime).drive_dir
        if wanted is None or drive_dir is None:
            return
        arguments = {"name": wanted.name, "lines": list(wanted.lines), "drive_dir": drive_dir}
        try:
            with closing(self.keepers.ensure(runtime.name).agent()) as agent:
                told, _ = agent.request("environment.restore", arguments)
        except ColabdevError as exc:
            progress(f"cannot bring the environment of {wanted.name} from Drive: {exc.message}")
            return
        if sentence := _sentence(told):
            progress(sentence)


def _sentence(told: Mapping[str, object]) -> str:
    """What came of it; "" when Drive has none."""
    if told.get("problem"):
        return f"the environment on Drive is not used: {told['problem']}"
    cold_s, warm_s = told.get("cold_s"), told.get("warm_s")
    if not isinstance(cold_s, int | float) or not isinstance(warm_s, int | float):
        return ""
    return f"environment: cold {cold_s:.0f} s → warm {warm_s:.1f} s"
