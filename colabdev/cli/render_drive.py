"""What is on Drive, in words and in JSON."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from colabdev.cli.output import document, line, printable, say
from colabdev.cli.render import table
from colabdev.core.sizes import format_size
from colabdev.core.times import format_time, parse_time

if TYPE_CHECKING:
    from colabdev.services.archives import Restored, StoredProject, Version
    from colabdev.services.datasets import DataSet, Pulled, Pushed


def stored_projects(projects: Sequence[StoredProject], *, as_json: bool) -> None:
    """The projects on Drive, each with its versions."""
    if as_json:
        document({"projects": [_project_json(one) for one in projects]})
        return
    rows = [
        (
            one.project,
            version.tree[:12],
            _when(version.stored),
            str(version.files),
            format_size(version.size_bytes),
            version.origin.rpartition(" on ")[0],
        )
        for one in projects
        for version in one.versions
    ]
    if rows:
        table(("PROJECT", "TREE", "STORED", "FILES", "SIZE", "FROM"), rows)
    else:
        line("no project is on Drive; colabdev sync keeps the one you stand in there")
    for one in projects:
        for name in one.broken:
            say(f"{printable(one.project)}: {printable(name)} is not whole")


def restored(project: Restored, *, as_json: bool) -> None:
    """The project that came back."""
    if as_json:
        document(
            {
                "project": project.project,
                "path": str(project.path),
                "files": project.files,
                **_version_json(project.version),
                "rejected": list(project.rejected),
                "problems": [{"path": path, "reason": reason} for path, reason in project.problems],
            }
        )
        return
    version = project.version
    line(
        f"{project.project} is in {project.path}: {project.files} files, as handed to Drive "
        f"at {_when(version.stored)}"
    )
    for path, reason in project.problems:
        line(f"  not here: {printable(path)}: {printable(reason)}")
    line(f"  next: cd {shlex.quote(str(project.path))} && colabdev sync")


def data_sets(known: Sequence[DataSet], *, as_json: bool) -> None:
    """The data sets on Drive."""
    if as_json:
        rows = [
            {
                "name": one.name,
                "content": one.content,
                "files": one.files,
                "bytes": one.size_bytes,
                "shards": one.shards,
                "pushed": _when(one.pushed),
            }
            for one in known
        ]
        document({"data": rows})
    elif known:
        table(
            ("NAME", "ID", "PUSHED", "FILES", "SIZE", "SHARDS"),
            [
                (
                    one.name,
                    one.content[:12],
                    _when(one.pushed),
                    str(one.files),
                    format_size(one.size_bytes),
                    str(one.shards),
                )
                for one in known
            ],
        )
    else:
        line("no data set is on Drive; colabdev data push DIR puts one there")


def pushed(done: Pushed, *, as_json: bool) -> None:
    """What `data push` did."""
    plan = done.plan
    if as_json:
        document(
            {
                "name": done.name,
                "content": plan.content,
                "files": plan.files,
                "bytes": plan.size_bytes,
                "shards": len(plan.shards),
                "sent": {"shards": done.sent_shards, "bytes": done.sent_bytes},
                "level": done.level,
                "problems": [{"path": path, "reason": reason} for path, reason in plan.problems],
            }
        )
        return
    line(
        f"{done.name} {plan.content[:12]} is handed to Drive: {plan.files} files "
        f"({format_size(plan.size_bytes)}) in {len(plan.shards)} shards, "
        f"{done.sent_shards} of them sent now"
    )
    for path, reason in plan.problems:
        line(f"  not in it: {printable(path)}: {printable(reason)}")
    line(f"  next: colabdev data pull {done.name}")


def pulled(done: Pulled, *, as_json: bool) -> None:
    """What `data pull` did."""
    if as_json:
        document(
            {
                "name": done.name,
                "content": done.content,
                "path": done.path,
                "files": done.files,
                "bytes": done.size_bytes,
                "copied": {"shards": done.copied_shards, "bytes": done.copied_bytes},
            }
        )
        return
    copied = (
        f"{format_size(done.copied_bytes)} copied" if done.copied_shards else "all there already"
    )
    line(
        f"{done.name} {done.content[:12]} is in {done.path} on the runtime: {done.files} files "
        f"({format_size(done.size_bytes)}), {copied}"
    )


def _project_json(project: StoredProject) -> dict[str, Any]:
    versions = [{"files": version.files, **_version_json(version)} for version in project.versions]
    return {"project": project.project, "versions": versions, "broken": list(project.broken)}


def _version_json(version: Version) -> dict[str, Any]:
    return {
        "tree": version.tree,
        "stored": _when(version.stored),
        "bytes": version.size_bytes,
        "archive": version.name,
        "origin": version.origin,
    }


def _when(stored: str) -> str:
    """The time as all of our output has it; what is none, as it came."""
    try:
        return format_time(parse_time(stored))
    except ValueError:
        return stored
