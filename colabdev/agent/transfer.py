"""What one process does for one store: carry a checkpoint, prove it again, write it down, take it away.

Each is run as a child of the carrier's, which may kill it at any moment, and says what it has proved at
once; the carrier writes that down before anybody else hears of it.
"""

from __future__ import annotations

import importlib
import os
import time
from typing import Any, Callable, Dict, List, Optional, Tuple

from . import arrival, fence, ground, jobdir, manifest, store_documents
from .arrival import Given, Patience, Refuted
from .carrier_files import CarrierFiles, Run
from .child import Say
from .claims import LEVEL, UNPROVEN, Checkpoint, Standing
from .drive_http import DriveHttp
from .fence import Wish
from .manifest import MANIFEST, FileEntry, Manifest
from .refusal import Refusal
from .store_driveapi import look_up
from .stores import ARRIVING, PROVED, SILENT, Receipt, Store, StoreError
from .stores import REFUTED as HAS_OTHER
from .taking import RESERVE_BYTES, free_bytes

ATTEMPTS = fence.FOLDER
CONFIRMED_FOLDER = "confirmed"
CHECKPOINTS = "checkpoints"
RUN = "run.json"

_FROM_SPEC = (
    *("kind", "argv", "typed", "tree", "created", "variables", "requirements", "in_place"),
    *("pty", "stdin", "timeout_s", "checkpoints"),
)
"""What run.json says as spec.json does; of variables that is the names."""


class Transfer:
    """The work on one store for one job."""

    def __init__(self, store: Store, run: Run, files: CarrierFiles, patience: Patience) -> None:
        self._store = store
        self._run = run
        self._files = files
        self._patience = patience

    def begin(self, say: Say) -> None:
        """Write down the job and this attempt of it; Fenced when that is not ours to make."""
        if not self._check_attempts():
            began = dict(self._run.spec.get("from") or {})
            token = str(self._run.spec.get("token") or "")
            wish = Wish(self._run.attempt, token, self._run.runtime, began)
            self._put_once(ATTEMPTS, "{}.json".format(wish.attempt), wish.record, say)
        here = ground.take(self._files, say)
        self._put_once(
            ATTEMPTS, "{}-ground.json".format(self._run.attempt), self._stand(here, say), say
        )
        if RUN not in self._store.names(self._run.folder):
            code = self._put_code(say)
            self._put_once("", RUN, describe_run(self._run, code, here), say)
        say({"begun": True})

    def guard(self, say: Say) -> None:
        """See that the attempt is still ours; Fenced when it is not."""
        self._check_attempts()

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
        state = self._wait(given, taken_s, say)
        if state != SILENT:
            level_receipts = [receipt for receipt, _ in given]
            say({"event": LEVEL, "level": manifest.COMMITTED, "receipts": level_receipts})
        receipt, entry = self._put_manifest(folder, checkpoint, say)
        if state == SILENT:
            say({"event": UNPROVEN, "why": "nothing tells whether it has arrived"})
            return
        last = self._wait([(receipt, entry)], 0.0, say)
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
        pause_s = arrival.FIRST_POLL_S
        for receipt, entry in self.stored(checkpoint, standing):
            proof = look_up(http, receipt, entry)
            while proof.state == HAS_OTHER and time.monotonic() < deadline:
                say({"waiting": entry.path})
                time.sleep(pause_s)
                pause_s = arrival.slower(pause_s)
                proof = look_up(http, receipt, entry)
            if proof.state == HAS_OTHER:
                raise Refuted("{}: {}".format(entry.path, proof.why))
        say({"event": LEVEL, "level": manifest.CONFIRMED})

    def record(self, checkpoint: Checkpoint, say: Say) -> None:
        """Write into the store that it is CONFIRMED, wherever that is: a new machine asks there."""
        best = checkpoint.best_standing
        assert best is not None, "it is asked for what is CONFIRMED"
        here = checkpoint.current(self._store.name)
        receipts = here.receipts if here else []
        document = {
            "schema": manifest.SCHEMA,
            "job": self._run.job,
            "name": checkpoint.name,
            "receipts": receipts,
            "step": checkpoint.step,
            "attempt": checkpoint.attempt,
            "sha256": checkpoint.sha256,
            "size_bytes": checkpoint.size_bytes,
            "store": best.store,
            "time": best.since,
        }
        self._put_once(CONFIRMED_FOLDER, checkpoint.name + ".json", document, say)
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

    def _check_attempts(self) -> bool:
        """Whether the store knows our attempt; Fenced when it is another machine's, or over."""
        return fence.check(self._store, self._run.folder, self._run.attempt, self._run.runtime)

    def _wait(self, given: List[Given], taken_s: float, say: Say) -> str:
        return arrival.wait(self._store, given, self._patience, say, taken_s)

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

    def _put_once(self, folder: str, name: str, document: Dict[str, Any], say: Say) -> None:
        """Write it below the job's folder, unless it is there."""
        place = "/".join(filter(None, [self._run.folder, folder]))
        store_documents.put_once(self._store, place, name, document, _beat(say))

    def _stand(self, here: Dict[str, Any], say: Say) -> Dict[str, Any]:
        """attempts/<n>-ground.json: on what this attempt stands, and how that differs from before."""
        began = self._run.spec.get("from") or {}
        place = "{}/{}".format(self._run.folder, ATTEMPTS)
        name = "{}-ground.json".format(began.get("attempt"))
        before = store_documents.load(self._store, place, name) if began else None
        return {
            "schema": manifest.SCHEMA,
            "ground": here,
            "not_bit_exact": ground.differences((before or {}).get("ground") or {}, here),
        }

    def _put_code(self, say: Say) -> Optional[str]:
        """See that the store has the archive of the job's code; its tree, None when that is not to be
        had any more."""
        # Only this process of the carrier's needs to know of zips.
        archives = importlib.import_module(".code_archives", __package__)
        try:
            path = archives.pack(self._files.job)
        except (Refusal, OSError, jobdir.Unreadable):
            return None
        tree_hash = str(self._run.spec.get("tree"))
        archives.put(self._store, self._run.project, tree_hash, path, _beat(say))
        return tree_hash


def describe_run(run: Run, code: Optional[str], here: Dict[str, Any]) -> Dict[str, Any]:
    """run.json: what a new machine needs to know to go on with the job. `code` is the tree whose archive
    the store has, `here` the ground of this attempt."""
    return {
        "schema": manifest.SCHEMA,
        "job": run.job,
        "project": run.project,
        "name": run.name,
        "code": code,
        "attempt": run.attempt,
        "ground": here,
        **{name: run.spec.get(name) for name in _FROM_SPEC},
    }


def _beat(say: Say) -> Callable[[int], None]:
    return lambda done: say({"sent": done})
