"""Data sets on a runtime's Drive: pushing a folder there, and copying one to the runtime's own disk."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from colabdev.agent.changes import Frame
from colabdev.agent.shards import Index, Shard, index_to_document
from colabdev.core.sizes import format_size
from colabdev.core.times import format_exact_time
from colabdev.core.workdirs import usable_machine
from colabdev.errors import ColabdevError, ProtocolError, UsageError
from colabdev.models import DataPlan, RuntimeRecord
from colabdev.ports import AgentStream, Keepers, LocalData, Progress
from colabdev.services.archives import drive_of

SMALLEST_SHARD_BYTES = 10_000
LARGEST_SHARD_BYTES = 4_000_000_000

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SAY_S = 2.0


@dataclass(frozen=True, slots=True)
class DataSet:
    """A version of a data set on Drive."""

    name: str
    content: str
    pushed: str
    files: int
    size_bytes: int
    shards: int


@dataclass(frozen=True, slots=True)
class Pushed:
    """What came of pushing a folder."""

    name: str
    plan: DataPlan
    sent_shards: int
    sent_bytes: int
    level: str
    """How far Drive says that it got; `accepted`: handed to Drive."""


@dataclass(frozen=True, slots=True)
class Pulled:
    """What came of copying a data set to the runtime's disk."""

    name: str
    content: str
    path: str
    files: int
    size_bytes: int
    copied_shards: int
    copied_bytes: int


class DataSets:
    """`data push`, `data pull`, `data ls`. Each may be interrupted anywhere and typed again."""

    def __init__(
        self,
        keepers: Keepers,
        open_folder: Callable[[Path, int], AbstractContextManager[LocalData]],
        check_amount: Callable[[RuntimeRecord, int], None] = lambda runtime, size_bytes: None,
    ) -> None:
        """`check_amount` raises when so many bytes are not to go there."""
        self._check_amount = check_amount
        self._keepers = keepers
        self._open_folder = open_folder

    def list(self, runtime: RuntimeRecord) -> list[DataSet]:
        """What is on the runtime's Drive, by name and the newest first."""
        place = {"drive_dir": drive_of(runtime)}
        with closing(self._keepers.agent(runtime.name)) as agent:
            answer, _ = agent.request("data.list", place)
        return _parse_list(answer)

    def push(
        self,
        runtime: RuntimeRecord,
        folder: Path,
        name: str,
        shard_bytes: int,
        progress: Progress,
    ) -> Pushed:
        """Put the folder on Drive as shards and, last, their index; shards that are there and prove
        themselves are not sent again."""
        check_data_name(name)
        _check_pushable(folder, shard_bytes)
        drive_dir = drive_of(runtime)
        with self._open_folder(folder, shard_bytes) as local:
            progress(f"looking at {folder}")
            plan = local.plan(progress)
            if not plan.shards:
                raise UsageError(
                    f"cannot push {folder}: there is no file in it", hint="colabdev data push DIR"
                )
            place = {"drive_dir": drive_dir, "name": name, "content": plan.content}
            with closing(self._keepers.agent(runtime.name)) as agent:
                push = _Push(agent, place, local, plan, progress)
                return push.go(partial(self._check_amount, runtime))

    def pull(
        self,
        runtime: RuntimeRecord,
        name: str,
        to: str | None,
        version: str | None,
        progress: Progress,
    ) -> Pulled:
        """Copy the newest version, or the one whose id begins with `version`, to the runtime's disk."""
        check_data_name(name)
        content_dir = usable_machine(runtime).content_dir
        path = f"{content_dir}/{to or f'data/{name}'}" if not (to or "").startswith("/") else to
        assert path is not None, "one or the other"
        arguments = {
            "drive_dir": drive_of(runtime),
            "name": name,
            "content": version,
            "to": path,
            "is_default": to is None,
        }
        with closing(self._keepers.agent(runtime.name)) as agent:
            said_at = time.monotonic()
            for header, _ in agent.stream("data.pull", arguments):
                if header.get("end"):
                    return _parse_pulled(name, path, header)
                if time.monotonic() - said_at >= _SAY_S:
                    said_at = time.monotonic()
                    progress(f"copying {_of(header.get('done'), header.get('size'))}")
        raise AssertionError("the agent's stream ends with `end`, or raises")


class _Push:
    """One push over one agent."""

    def __init__(
        self,
        agent: AgentStream,
        place: Mapping[str, object],
        local: LocalData,
        plan: DataPlan,
        progress: Progress,
    ) -> None:
        self._agent = agent
        self._place = place
        self._local = local
        self._plan = plan
        self._progress = progress

    def go(self, check_amount: Callable[[int], None]) -> Pushed:
        paths, staged, published = self._check()
        missing = [shard for shard in self._plan.shards if shard.number not in paths]
        check_amount(sum(shard.size - staged.get(shard.number, 0) for shard in missing))
        sent = 0
        for shard in missing:
            offset = staged.get(shard.number, 0)
            paths[shard.number] = self._send(shard, offset)
            sent += shard.size - offset
        level = "accepted"
        if missing or not published:
            level = self._commit([paths[shard.number] for shard in self._plan.shards])
        return Pushed(str(self._place["name"]), self._plan, len(missing), sent, level)

    def _check(self) -> tuple[dict[int, str], dict[int, int], bool]:
        """Where the whole shards are, how much of others came before, and whether the index is there."""
        paths: dict[int, str] = {}
        staged: dict[int, int] = {}
        rows = [list(shard) for shard in self._plan.shards]
        for header, _ in self._agent.stream("data.check", {**self._place, "shards": rows}):
            if header.get("end"):
                return paths, staged, header.get("published") is True
            number = header.get("number")
            if isinstance(number, int):
                if header.get("path") is not None:
                    paths[number] = str(header["path"])
                staged[number] = int(str(header.get("staged") or 0))
            else:
                self._progress(f"checking what is there: {_of(header.get('checked'), None)}")
        raise AssertionError("the agent's stream ends with `end`, or raises")

    def _send(self, shard: Shard, offset: int) -> str:
        arguments = {**self._place, "shard": list(shard), "offset": offset}
        answer, _ = self._agent.upload("data.put", arguments, self._frames(shard, offset))
        if "problem" in answer:
            raise ColabdevError(
                f"cannot push shard {shard.number}: {answer['problem']}",
                hint="push again when nobody writes in that folder",
            )
        return str(answer["path"])

    def _frames(self, shard: Shard, offset: int) -> Iterator[Frame]:
        done, said_at = offset, time.monotonic()
        for piece in self._local.read(shard, offset):
            yield {}, piece
            done += len(piece)
            if time.monotonic() - said_at >= _SAY_S:
                said_at = time.monotonic()
                count = len(self._plan.shards)
                self._progress(f"shard {shard.number} of {count}: {_of(done, shard.size)}")
        yield {"end": True}, b""

    def _commit(self, paths: Sequence[str]) -> str:
        plan = self._plan
        index = Index(
            name=str(self._place["name"]),
            content=plan.content,
            pushed=format_exact_time(datetime.now(UTC)),
            files=plan.files,
            size_bytes=plan.size_bytes,
            shards=list(plan.shards),
            paths=list(paths),
        )
        answer, _ = self._agent.request(
            "data.commit", {**self._place, "index": index_to_document(index)}
        )
        return str(answer.get("level"))


def check_data_name(name: str) -> str:
    """`name`, when a data set may have it; `UsageError` otherwise."""
    if _NAME.fullmatch(name) is None:
        raise UsageError(
            f"cannot use {name!r} as a data set's name: letters, digits, dots, dashes, at most 64",
            hint="colabdev data push DIR --name my-data",
        )
    return name


def _check_pushable(folder: Path, shard_bytes: int) -> None:
    if not SMALLEST_SHARD_BYTES <= shard_bytes <= LARGEST_SHARD_BYTES:
        raise UsageError(
            f"cannot make shards of {format_size(shard_bytes)}: from "
            f"{format_size(SMALLEST_SHARD_BYTES)} to {format_size(LARGEST_SHARD_BYTES)}",
            hint="100M to 1G suits Drive best",
        )
    if not folder.is_dir():
        raise UsageError(f"cannot push {folder}: it is no folder", hint="colabdev data push DIR")


def _of(done: object, size: object) -> str:
    shown = format_size(done) if isinstance(done, int) else "?"
    return f"{shown} of {format_size(size)}" if isinstance(size, int) else shown


def _parse_list(answer: Mapping[str, object]) -> list[DataSet]:
    try:
        rows = answer["data"]
        if not isinstance(rows, list):
            raise TypeError("no list")
        return [
            DataSet(
                name=str(row["name"]),
                content=str(row["content"]),
                pushed=str(row["pushed"]),
                files=int(row["files"]),
                size_bytes=int(row["size_bytes"]),
                shards=int(row["shards"]),
            )
            for row in rows
        ]
    except (KeyError, TypeError, ValueError) as exc:
        raise ProtocolError(f"cannot understand the agent's list of data sets: {exc}") from exc


def _parse_pulled(name: str, path: str, header: Mapping[str, object]) -> Pulled:
    def number(key: str) -> int:
        value = header.get(key)
        if not isinstance(value, int):
            raise ProtocolError(f"cannot understand what the agent pulled: no {key}")
        return value

    return Pulled(
        name=name,
        content=str(header.get("content")),
        path=path,
        files=number("files"),
        size_bytes=number("size_bytes"),
        copied_shards=number("copied_shards"),
        copied_bytes=number("copied_bytes"),
    )
