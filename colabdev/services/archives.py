"""The projects on a runtime's Drive: which there are, and bringing one back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from pathlib import Path

from colabdev.agent.tree import Problem
from colabdev.core.sizes import format_size
from colabdev.core.workdirs import usable_machine
from colabdev.errors import ColabdevError, NotOnDrive, ProtocolError, UsageError, unknown_word
from colabdev.models import RuntimeRecord
from colabdev.ports import AgentStream, BrokenArchive, Keepers, Progress, RestoreTarget

_SAY_S = 2.0


@dataclass(frozen=True, slots=True)
class Version:
    """One archive of a project on Drive, by its own word: nothing of it is proved yet."""

    name: str
    tree: str
    stored: str
    """RFC 3339, UTC."""
    files: int
    size_bytes: int
    packed_bytes: int
    origin: str
    """The folder and the computer that it came from."""


@dataclass(frozen=True, slots=True)
class StoredProject:
    """A project on Drive, newest version first, and the archives of it that are not whole."""

    project: str
    versions: tuple[Version, ...]
    broken: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Restored:
    """A project that came back."""

    project: str
    version: Version
    path: Path
    files: int
    problems: tuple[Problem, ...]
    rejected: tuple[str, ...]
    """The newer archives that did not verify."""


class Archives:
    """`restore`."""

    def __init__(
        self,
        keepers: Keepers,
        open_target: Callable[[Path], AbstractContextManager[RestoreTarget]],
    ) -> None:
        self._keepers = keepers
        self._open_target = open_target

    def list(self, runtime: RuntimeRecord, project: str | None) -> list[StoredProject]:
        """The projects on the runtime's Drive; with `project` that one, which there must be."""
        drive_dir = drive_of(runtime)
        with closing(self._keepers.agent(runtime.name)) as agent:
            return _list(agent, drive_dir, project)

    def restore(
        self,
        runtime: RuntimeRecord,
        project: str,
        target: Path,
        version: str | None,
        progress: Progress,
    ) -> Restored:
        """Make `target` the newest version that verifies, or the one whose tree begins with `version`.

        `target` is missing or an empty folder, and is then whole or as it was.
        """
        check_stored_name(project, "project")
        _check_free(project, target)
        drive_dir = drive_of(runtime)
        with (
            closing(self._keepers.agent(runtime.name)) as agent,
            self._open_target(target) as made,
        ):
            (stored,) = _list(agent, drive_dir, project)
            rejected = list(stored.broken) if version is None else []
            for candidate in _candidates(stored, version):
                place = {"drive_dir": drive_dir, "project": project, "name": candidate.name}
                progress(f"fetching {project} as of {candidate.stored}")
                made.receive(_fetch(agent, place, progress))
                try:
                    unpacked = made.unpack(candidate.tree)
                except BrokenArchive as exc:
                    progress(f"the archive {candidate.name} cannot be used: {exc}")
                    rejected.append(candidate.name)
                    continue
                made.place()
                return Restored(
                    project, candidate, target, unpacked.files, unpacked.problems, tuple(rejected)
                )
        raise NotOnDrive(
            f"cannot restore {project!r}: none of its archives on Drive is whole",
            hint=f"colabdev restore {project} --list shows them",
        )


def drive_of(runtime: RuntimeRecord) -> str:
    """Where the runtime has Drive; it must have one."""
    drive_dir = usable_machine(runtime).drive_dir
    if drive_dir is None:
        raise ColabdevError(
            f"the runtime {runtime.name!r} has no Drive",
            hint="name one that has: colabdev status, then -r NAME",
        )
    return drive_dir


def check_stored_name(name: str, what: str) -> str:
    """`name`, when it can be one folder on Drive; `UsageError` otherwise."""
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise UsageError(f"{name!r} is no name of a {what}", hint=f"the {what}'s name, no path")
    return name


def pieces_of(
    frames: Iterable[tuple[Mapping[str, object], bytes]],
    what: str,
    size: int,
    progress: Progress,
) -> Iterator[bytes]:
    """The bodies up to the frame that says `end`, with a word now and then of how far it got."""
    done, said_at = 0, time.monotonic()
    for header, body in frames:
        if header.get("end"):
            return
        done += len(body)
        if time.monotonic() - said_at >= _SAY_S:
            said_at = time.monotonic()
            progress(f"{what}: {format_size(done)} of {format_size(size)}")
        yield body


def _fetch(agent: AgentStream, place: Mapping[str, object], progress: Progress) -> Iterator[bytes]:
    frames = agent.stream("archive.fetch", place)
    header, _ = next(iter(frames))
    size = header.get("size")
    if not isinstance(size, int):
        raise ProtocolError("cannot understand how the agent sends an archive: no size")
    return pieces_of(frames, "fetching", size, progress)


def _list(agent: AgentStream, drive_dir: str, project: str | None) -> list[StoredProject]:
    if project is not None:
        check_stored_name(project, "project")
    answer, _ = agent.request("archive.list", {"drive_dir": drive_dir})
    stored = [one for one in _parse(answer) if one.versions or one.broken]
    if project is None:
        return stored
    names = [one.project for one in stored]
    if project not in names:
        if not names:
            raise NotOnDrive(
                f"no project {project!r} is on Drive, nor any other",
                hint="colabdev sync keeps the project you stand in there",
            )
        raise NotOnDrive(
            f"not on Drive: {unknown_word('project', project, names)}",
            hint="colabdev restore --list shows what is there",
        )
    return [one for one in stored if one.project == project]


def _candidates(stored: StoredProject, version: str | None) -> tuple[Version, ...]:
    if version is None:
        return stored.versions
    chosen = tuple(one for one in stored.versions if one.tree.startswith(version))
    if len({one.tree for one in chosen}) != 1:
        many = "several versions begin" if chosen else "no version begins"
        raise NotOnDrive(
            f"cannot restore {stored.project!r}: {many} with {version!r}",
            hint=f"colabdev restore {stored.project} --list shows them",
        )
    return chosen


def _check_free(project: str, target: Path) -> None:
    if target.is_symlink() or (target.exists() and not _is_empty_folder(target)):
        raise UsageError(
            f"cannot restore {project!r} into {target}: something is there already",
            hint=f"name a new folder: colabdev restore {project} --to {target.name}-2",
        )


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


def _parse(answer: Mapping[str, object]) -> Iterator[StoredProject]:
    try:
        projects = answer["projects"]
        if not isinstance(projects, list):
            raise TypeError("no list")
        for row in projects:
            rows = row["archives"]
            yield StoredProject(
                str(row["project"]),
                tuple(_version(one) for one in rows if not one["broken"]),
                tuple(str(one["name"]) for one in rows if one["broken"]),
            )
    except (KeyError, TypeError, ValueError) as exc:
        raise ProtocolError(f"cannot understand the agent's list of projects: {exc}") from exc


def _version(row: Mapping[str, object]) -> Version:
    return Version(
        name=str(row["name"]),
        tree=str(row["tree"]),
        stored=str(row["stored"]),
        files=int(str(row["files"])),
        size_bytes=int(str(row["size_bytes"])),
        packed_bytes=int(str(row["packed_bytes"])),
        origin=str(row["origin"]),
    )
