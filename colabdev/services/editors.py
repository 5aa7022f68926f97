"""Opening a folder of a runtime in an editor of this computer."""

from __future__ import annotations

import posixpath
from contextlib import closing
from dataclasses import dataclass

from colabdev.core.editor_settings import PLATFORMS, has_platform, with_platform
from colabdev.core.editors import EDITORS, LOOK_AND_PREPARE, find_kind, open_arguments
from colabdev.core.workdirs import usable_machine, workdir_of
from colabdev.errors import ColabdevError, RuntimeUnreachable, UsageError
from colabdev.models import EditorKind, RuntimeRecord
from colabdev.ports import (
    EditorPrograms,
    EntryFiles,
    HostEntries,
    Keeper,
    Keepers,
    Progress,
)

_READY_TIMEOUT_S = 40.0
_LOOK_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class Opened:
    """What an editor was told to open."""

    kind: EditorKind
    path: str
    """On the runtime."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Editors:
    """The editors of this computer, on the way to a runtime."""

    programs: EditorPrograms
    keepers: Keepers
    entries: HostEntries
    files: EntryFiles

    def choose(self, typed: str | None) -> EditorKind:
        """The editor that was typed, else the first that is installed, with what brings it to SSH."""
        kind = self._installed(typed)
        extensions = self.programs.extensions(kind)
        if extensions is not None and extensions.isdisjoint(kind.extensions):
            raise ColabdevError(
                f"{kind.title} cannot go to another machine: it has no Remote-SSH extension",
                hint=f"{kind.command} --install-extension {kind.extensions[0]}",
            )
        return kind

    def open(
        self,
        kind: EditorKind,
        runtime: RuntimeRecord,
        project: tuple[str | None, str | None],
        typed: str,
        progress: Progress,
    ) -> Opened:
        """Open `typed`, absolute or from the project's work dir, on the runtime."""
        usable_machine(runtime)
        path = posixpath.normpath(posixpath.join(workdir_of(runtime, *project), typed))
        keeper = self.keepers.ensure(runtime.name)
        keeper.wait_ready(_READY_TIMEOUT_S)
        # On a host of the user's own the editor's settings are theirs.
        server_folder = "" if runtime.host is not None else kind.server_folder
        found = _look(keeper, path, server_folder)
        if found not in ("folder", "file"):
            raise ColabdevError(
                f"cannot open {path!r}: {runtime.name} has no such folder or file",
                hint="colabdev sync sends the project there; PATH is one of the runtime",
            )
        self._lead_there(runtime, progress)
        self.programs.open(kind, open_arguments(runtime.name, path, is_folder=found == "folder"))
        return Opened(kind, path)

    def settle(self, kind: EditorKind, alias: str, progress: Progress, *, write: bool) -> None:
        """Spare the user the editor's question what the host runs: write the answer into its settings,
        or say how to have that done."""
        path = self.programs.settings_file(kind)
        if path is None or has_platform(self.programs.settings(path), alias):
            return
        if not write:
            progress(
                f"{kind.title} asks once what {alias} runs: Linux. "
                f"colabdev code --settings writes that into {path}"
            )
        elif not self.programs.change_settings(path, lambda text: with_platform(text, alias)):
            progress(f"cannot change {path}; put this into it: {_line(alias)}")

    def _installed(self, typed: str | None) -> EditorKind:
        if typed is not None:
            kind = find_kind(typed)
            if not self.programs.has(kind):
                raise UsageError(
                    f"cannot find {kind.title}: there is no {kind.command!r} on the PATH",
                    hint=f"in {kind.title} press F1 and choose: Shell Command: Install "
                    f"'{kind.command}' command in PATH",
                )
            return kind
        for kind in EDITORS.values():
            if self.programs.has(kind):
                return kind
        raise ColabdevError(
            f"cannot find an editor on the PATH: none of {', '.join(EDITORS)}",
            hint="install VS Code from https://code.visualstudio.com, or open the host by hand: its "
            "name is the runtime's",
        )

    def _lead_there(self, runtime: RuntimeRecord, progress: Progress) -> None:
        """Make the editor's ssh know the name."""
        self.entries.write(runtime)
        by_hand = self.entries.include()
        if by_hand:
            progress(by_hand)
        elif not self.files.is_taken(runtime.name):
            progress(
                f"something in your own configuration is stronger than the entry {runtime.name}; "
                f"ssh -G {runtime.name} shows what ssh makes of both"
            )
        if not self.files.is_plain:
            progress(
                f"editors read another SSH configuration by themselves; set remote.SSH.configFile "
                f"to {self.files.main_file}"
            )


def _look(keeper: Keeper, path: str, server_folder: str) -> str:
    """What stands at the path there; the editor's own settings there are made when they are not."""
    process = keeper.open(["sh", "-c", LOOK_AND_PREPARE, "sh", path, server_folder])
    said = b""
    try:
        with closing(process):
            process.close_stdin()
            while (output := process.read(_LOOK_TIMEOUT_S)) is not None:
                said += output.data if output.pipe == "stdout" else b""
    except TimeoutError as exc:
        raise RuntimeUnreachable(
            f"cannot look at {path!r} on the runtime: no answer in {_LOOK_TIMEOUT_S:.0f} s",
            hint="colabdev doctor",
        ) from exc
    return said.decode("utf-8", "replace").strip()


def _line(alias: str) -> str:
    return f'"{PLATFORMS}": {{"{alias}": "linux"}}'
