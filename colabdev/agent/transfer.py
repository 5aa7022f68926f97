"""What one process does for one store: carry a checkpoint, prove it again, write it down, take it away.

Each is run as a child of the carrier's, which may kill it at any moment, and says what it has proved at
once; the carrier writes that down before anybody else hears of it.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any, Callable, Dict, List, NamedTuple, Tuple

from . import manifest
from .carrier_files import CarrierFiles, Run
from .child import Say
from .claims import LEVEL, UNPROVEN, Checkpoint, Standing
from .drive_http import DriveHttp
from .manifest import MANIFEST, FileEntry, Manifest
from .store_driveapi import look_up
from .stores import ARRIVING, PROVED, SILENT, Receipt, Store, StoreError
from .stores import REFUTED as HAS_OTHER
from .taking import RESERVE_BYTES, free_bytes

ATTEMPTS = "attempts"
CONFIRMED_FOLDER = "confirmed"
CHECKPOINTS = "checkpoints"
RUN = "run.json"

_POLL_S = 0.1
_SLOWEST_POLL_S = 2.0


class Patience(NamedTuple):
    """How long a store may take, in seconds."""

    arrive_s: float = 120.0
    """At least so long after it was handed over; longer for what is large."""
    silent_s: float = 10.0
    """A new file may be without attributes for so long; then the store tells nothing."""


class Refuted(StoreError):
    """What was claimed is not so."""


class Fenced(StoreError):
    """A later attempt of the job runs elsewhere: it is not ours to go on."""


class Transfer:
    """The work on one store for one job."""

    def __init__(self, store: Store, run: Run, files: CarrierFiles, patience: Patience) -> None:
        self._store = store
        self._run = run
        self._files = files
        self._patience = patience

    def begin(self, say: Say) -> None:
        """Write down the job and this attempt of it; Fenced when there is a later one."""
        numbers = self._check_attempts()
        if RUN not in self._store.names(self._run.folder):
            self._put_document("{}/{}".format(self._run.folder, RUN), describe_run(self._run), say)
        if self._run.attempt not in numbers:
            path = "{}/{}/{}.json".format(self._run.folder, ATTEMPTS, self._run.attempt)
            self._put_document(path, describe_attempt(self._run), say)
        say({"begun": True})

    def carry(self, checkpoint: Checkpoint, standing: Standing, say: Say) -> None:
        """Bring it as far as the store can prove; says `level`s or `unproven`, or is Refuted."""
        self._check_attempts()
        whole = self._manifest(checkpoint)
        folder = self.folder(standing)
        held = self._files.held_at(checkpoint.name)
        room = free_bytes(self._files.held)
        if self._store.is_cached and room < whole.size_bytes + RESERVE_BYTES:
            raise StoreError("the runtime's disk has no room for the copy that Drive makes", 30.0)
        begun = time.monotonic()
        given = []
        for number, entry in enumerate(whole.files):
            path = "{}/{}".format(folder, manifest.stored_path(whole, number))
            source = os.path.join(held, *entry.path.split("/"))
            given.append((self._store.put(path, source, entry, _beat(say)), entry))
        if not standing.level:
            say({"event": LEVEL, "level": manifest.ACCEPTED})
        taken_s = time.monotonic() - begun
        state = await_proof(self._store, given, self._patience, taken_s, say)
        if state != SILENT:
            level_receipts = [receipt for receipt, _ in given]
            say({"event": LEVEL, "level": manifest.COMMITTED, "receipts": level_receipts})
        receipt, entry = self._put_manifest(folder, checkpoint, say)
        if state == SILENT:
            say({"event": UNPROVEN, "why": "nothing tells whether it has arrived"})
            return
        last = await_proof(self._store, [(receipt, entry)], self._patience, 0.0, say)
        if last == SILENT:
            say({"event": UNPROVEN, "why": "nothing tells whether its manifest has arrived"})
            return
        say({"event": LEVEL, "level": manifest.PUBLISHED, "receipts": [receipt]})
        if state == last == PROVED:
            say({"event": LEVEL, "level": manifest.CONFIRMED})

    def check(self, checkpoint: Checkpoint, standing: Standing, say: Say) -> None:
        """See that what the store was proved to have is there still; else Refuted."""
        for receipt, entry in self.stored(checkpoint, standing):
            proof = self._store.look(receipt, entry)
            say({"looked": entry.path})
            if proof.state in (HAS_OTHER, ARRIVING):
                why = proof.why or "the store says now that it has not arrived"
                raise Refuted("{}: {}".format(entry.path, why))

    def audit(self, checkpoint: Checkpoint, standing: Standing, api_url: str, say: Say) -> None:
        """Ask Drive itself for what its program on the runtime says that it has; says `level`, or is
        Refuted. A file that Drive does not know yet is waited for."""
        http = DriveHttp(api_url)
        deadline = time.monotonic() + self._patience.silent_s
        pause_s = _POLL_S
        for receipt, entry in self.stored(checkpoint, standing):
            proof = look_up(http, receipt, entry)
            while proof.state == HAS_OTHER and time.monotonic() < deadline:
                say({"waiting": entry.path})
                time.sleep(pause_s)
                pause_s = min(pause_s * 1.5, _SLOWEST_POLL_S)
                proof = look_up(http, receipt, entry)
            if proof.state == HAS_OTHER:
                raise Refuted("{}: {}".format(entry.path, proof.why))
        say({"event": LEVEL, "level": manifest.CONFIRMED})

    def record(self, checkpoint: Checkpoint, say: Say) -> None:
        """Write into the store that it is CONFIRMED, wherever that is: a new machine asks there."""
        best = checkpoint.best_standing
        assert best is not None, "it is asked for what is CONFIRMED"
        path = "{}/{}/{}.json".format(self._run.folder, CONFIRMED_FOLDER, checkpoint.name)
        document = {
            "schema": manifest.SCHEMA,
            "job": self._run.job,
            "name": checkpoint.name,
            "step": checkpoint.step,
            "attempt": checkpoint.attempt,
            "sha256": checkpoint.sha256,
            "size_bytes": checkpoint.size_bytes,
            "store": best.store,
            "time": best.since,
        }
        self._put_document(path, document, say)
        say({"recorded": True})

    def remove(self, checkpoint: Checkpoint, standing: Standing, say: Say) -> None:
        """Delete what that try left in the store."""
        self._store.remove(self.folder(standing))
        if standing.is_recorded:
            name = "{}/{}/{}.json".format(self._run.folder, CONFIRMED_FOLDER, checkpoint.name)
            self._store.remove(name)
        say({"gone": True})

    def folder(self, standing: Standing) -> str:
        """Where a try is, below the store's root."""
        return "{}/{}/{}".format(self._run.folder, CHECKPOINTS, standing.place)

    def stored(self, checkpoint: Checkpoint, standing: Standing) -> List[Tuple[Receipt, FileEntry]]:
        """What the store gave for each file, the manifest last."""
        entries = [*self._manifest(checkpoint).files, self._manifest_entry(checkpoint)]
        return list(zip(standing.receipts, entries))

    def _check_attempts(self) -> List[int]:
        """The attempts that the store knows; Fenced when there is a later one."""
        names = self._store.names("{}/{}".format(self._run.folder, ATTEMPTS))
        numbers = [int(name[:-5]) for name in names if name[:-5].isdigit()]
        if max(numbers, default=0) > self._run.attempt:
            raise Fenced("attempt {} of it runs elsewhere".format(max(numbers)))
        return numbers

    def _manifest(self, checkpoint: Checkpoint) -> Manifest:
        with open(self._files.manifest(checkpoint.name), "rb") as file:
            return manifest.parse(file.read())

    def _manifest_entry(self, checkpoint: Checkpoint) -> FileEntry:
        found = manifest.digests(self._files.manifest(checkpoint.name))
        return found._replace(path=MANIFEST)

    def _put_manifest(
        self, folder: str, checkpoint: Checkpoint, say: Say
    ) -> Tuple[Receipt, FileEntry]:
        entry = self._manifest_entry(checkpoint)
        source = self._files.manifest(checkpoint.name)
        path = "{}/{}".format(folder, MANIFEST)
        return self._store.put(path, source, entry, _beat(say)), entry

    def _put_document(self, path: str, document: Dict[str, Any], say: Say) -> None:
        source = os.path.join(self._files.directory, "document.{}".format(self._store.name))
        with open(source, "w", encoding="ascii") as file:
            json.dump(document, file, indent=1, sort_keys=True)
        self._store.put(path, source, manifest.digests(source), _beat(say))


def await_proof(
    store: Store,
    given: List[Tuple[Receipt, FileEntry]],
    patience: Patience,
    taken_s: float,
    say: Say,
) -> str:
    """Until all of it, which took `taken_s` to hand over, is proved as far as the store can; PROVED,
    ARRIVED or SILENT. Refuted, or StoreError when it does not arrive."""
    begun = time.monotonic()
    limit_s = max(patience.arrive_s, 4 * taken_s)
    pause_s = _POLL_S
    state = PROVED
    for receipt, entry in given:
        while True:
            proof = store.look(receipt, entry)
            passed_s = time.monotonic() - begun
            is_waiting = proof.state == ARRIVING or (
                proof.state == SILENT and passed_s < patience.silent_s
            )
            if not is_waiting:
                break
            if passed_s >= limit_s:
                raise StoreError("it has not arrived after {:.0f} s".format(passed_s))
            say({"waiting": entry.path})
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.5, _SLOWEST_POLL_S)
        if proof.state == HAS_OTHER:
            raise Refuted("{}: {}".format(entry.path, proof.why))
        state = _weaker(state, proof.state)
    return state


def describe_run(run: Run) -> Dict[str, Any]:
    """run.json: what a new machine needs to know to go on with the job."""
    return {
        "schema": manifest.SCHEMA,
        "job": run.job,
        "project": run.project,
        "name": run.name,
        "argv": run.spec.get("argv"),
        "typed": run.spec.get("typed"),
        "kind": run.spec.get("kind"),
        "tree": run.spec.get("tree"),
        "created": run.spec.get("created"),
        "checkpoints": run.spec.get("checkpoints"),
    }


def describe_attempt(run: Run) -> Dict[str, Any]:
    """attempts/<n>.json."""
    began = run.spec.get("from") or {}
    return {
        "schema": manifest.SCHEMA,
        "attempt": run.attempt,
        "runtime": run.runtime,
        "from_attempt": began.get("attempt"),
        "from_step": began.get("step"),
        "started": run.created,
    }


def _beat(say: Say) -> Callable[[int], None]:
    return lambda done: say({"sent": done})


def _weaker(one: str, other: str) -> str:
    order = (SILENT, "arrived", PROVED)
    return min(one, other, key=order.index)
