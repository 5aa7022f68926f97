"""Having on a new machine, before anybody needs it, what the one before it had installed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

from colabdev.core.editors import EDITORS
from colabdev.core.sizes import format_size
from colabdev.core.workdirs import usable_machine
from colabdev.errors import ColabdevError
from colabdev.models import RuntimeRecord
from colabdev.ports import Keepers, Progress

_SERVERS = {kind.server_folder: kind.title for kind in EDITORS.values()}


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
            told = self._ask(runtime, "environment.restore", arguments)
        except ColabdevError as exc:
            progress(f"cannot bring the environment of {wanted.name} from Drive: {exc.message}")
            return
        if sentence := _sentence(told):
            progress(sentence)

    def bring_editors(self, runtime: RuntimeRecord, progress: Progress) -> None:
        """The servers of editors that Drive has; what editors put there from now on is kept."""
        drive_dir = usable_machine(runtime).drive_dir
        if drive_dir is None:
            return
        arguments = {"drive_dir": drive_dir, "folders": list(_SERVERS)}
        try:
            told = self._ask(runtime, "editor.restore", arguments)
        except ColabdevError as exc:
            progress(f"cannot bring editors' servers from Drive: {exc.message}")
            return
        for sentence in _editor_sentences(told):
            progress(sentence)

    def _ask(
        self, runtime: RuntimeRecord, kind: str, arguments: Mapping[str, object]
    ) -> Mapping[str, object]:
        with closing(self.keepers.agent(runtime.name)) as agent:
            told, _ = agent.request(kind, arguments)
        return told


def _editor_sentences(told: Mapping[str, object]) -> Iterator[str]:
    """What came of it, of each editor that Drive has a server of."""
    brought, problems = told.get("brought"), told.get("problems")
    for row in brought if isinstance(brought, list) else []:
        took_s, size = float(row["took_s"]), format_size(int(row["size_bytes"]))
        yield f"{_title(row['folder'])}'s server: {size} from Drive in {took_s:.1f} s"
    for folder, why in problems if isinstance(problems, list) else []:
        yield f"{_title(folder)}'s server on Drive is not used: {why}"


def _title(folder: object) -> str:
    return _SERVERS.get(str(folder), str(folder))


def _sentence(told: Mapping[str, object]) -> str:
    """What came of it; "" when Drive has none."""
    if told.get("problem"):
        return f"the environment on Drive is not used: {told['problem']}"
    cold_s, warm_s = told.get("cold_s"), told.get("warm_s")
    if not isinstance(cold_s, int | float) or not isinstance(warm_s, int | float):
        return ""
    return f"environment: cold {cold_s:.0f} s → warm {warm_s:.1f} s"
