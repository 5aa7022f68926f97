"""The `colab` provider: runtimes of the account's, asked for, set up, found and given back."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib import resources

from colabdev.core.bootstrap import VmAnswer, parse_bootstrap, render_bootstrap
from colabdev.crash_points import crash_point
from colabdev.errors import (
    AgentUnusable,
    ColabdevError,
    HostKeyMismatch,
    NoCapacity,
    NotSafeToRelease,
    ReleaseUnproven,
    RuntimeUnreachable,
    UsageError,
)
from colabdev.models import ColabTunnel, HardwareWish, Machine, SshAddress, StartRequest
from colabdev.ports import Progress
from colabdev.providers.colab.client import (
    Accelerator,
    Account,
    Assignment,
    ColabClient,
    NoneFree,
    Unclear,
)
from colabdev.providers.colab.drive import (
    credential_answers,
    flush_drive,
    mount_as_wished,
)
from colabdev.providers.colab.hardware import choose_accelerators, price_line
from colabdev.providers.colab.kernel import Kernel
from colabdev.providers.colab.notes import Note, Notes
from colabdev.providers.colab.wire import (
    FREE_TIER_TERMS,
    LIFETIME_S,
    LONGEST_LIFETIME_S,
    notebook_hash,
)

CONTENT_DIR = "/content"
BOOTSTRAP_TIMEOUT_S = 300.0
RELEASE_TIMEOUT_S = 60.0
_RELEASE_POLL_S = 1.0
_UNCLEAR_TRIES = 4
_UNCLEAR_FIRST_S = 1.0
_WAIT_FIRST_S = 15.0
_WAIT_CAP_S = 120.0


@dataclass(frozen=True, slots=True)
class Overview:
    """An account, as `status` shows it."""

    account: Account
    elsewhere: tuple[Assignment, ...]
    life_s: tuple[int, int] = (LIFETIME_S, LONGEST_LIFETIME_S)
    """How long a runtime lives at most, by the plan."""


class ColabProvider:
    """`ports.Provider` over the account's runtimes."""

    def __init__(
        self,
        client: ColabClient,
        notes: Notes,
        *,
        accepts_free_tier_terms: Callable[[], bool],
        wait_first_s: float = _WAIT_FIRST_S,
    ) -> None:
        self._client = client
        self._notes = notes
        self._accepts_free_tier_terms = accepts_free_tier_terms
        self._wait_first_s = wait_first_s

    @property
    def name(self) -> str:
        return "colab"

    def start(self, request: StartRequest, progress: Progress) -> Machine:
        account = self._client.account()
        self._check_terms(account, progress)
        note = self._begun(request)
        assignment = self._assigned(request, note, account, progress)
        crash_point("colab.assigned")
        note = replace(note, endpoint=assignment.endpoint)
        self._notes.save(request.name, note)
        crash_point("colab.noted")
        machine = self._set_up(assignment, request, note, progress)
        self._notes.save(request.name, replace(note, machine=machine))
        return machine

    def find(self, name: str) -> Machine | None:
        """As it was set up. One that never was has no host key yet."""
        note = self._notes.load(name)
        if note is None:
            return None
        assignment = self._of(note)
        if assignment is None:
            return None
        return note.machine or _not_set_up(note, assignment)

    def names(self) -> Sequence[str]:
        known = self._notes.names()
        if not known:
            return ()  # Then nobody need be logged in.
        return tuple(name for name in known if self.find(name) is not None)

    def overview(self) -> Overview:
        """The account, and those of its runtimes that were not asked for from here."""
        account = self._client.account()
        if not account.runtimes:
            return Overview(account, ())
        notes = [self._notes.load(name) for name in self._notes.names()]
        known = {note.endpoint for note in notes if note is not None}
        listed = self._client.assignments()
        return Overview(account, tuple(one for one in listed if one.endpoint not in known))

    def release(self, name: str) -> None:
        note = self._notes.load(name)
        if note is None:
            return
        assignment = self._of(note)
        if assignment is not None:
            self._unassign(name, assignment.endpoint)
        self._notes.delete(name)

    def flush(self, name: str, progress: Progress, *, force: bool) -> None:
        """Have Drive take what waits on a runtime that answers. `NotSafeToRelease` when it does not
        take it, unless `force`; a runtime that does not answer is said to be so."""
        note = self._notes.load(name)
        if note is None or note.machine is None or note.machine.drive_dir is None:
            return
        try:
            assignment = self._of(note)
            if assignment is None:
                return
            progress("waiting until Drive has taken what was written there")
            with Kernel(assignment, self._answers(assignment)) as kernel:
                flush_drive(kernel)
        except NotSafeToRelease as exc:
            if not force:
                raise
            progress(f"giving it up: {exc.message}")
        except RuntimeUnreachable as exc:
            progress(f"cannot ask the runtime what Drive has taken: {exc.message}")

    def _check_terms(self, account: Account, progress: Progress) -> None:
        """Without a positive balance Colab's terms forbid SSH; nothing is asked for then."""
        if account.balance > 0:
            return
        if not self._accepts_free_tier_terms():
            raise NoCapacity(
                f"the balance of compute units is {account.balance:g}, and without a positive one "
                f"Colab's terms forbid SSH.\n{FREE_TIER_TERMS}",
                hint="buy units (https://colab.research.google.com/signup), or colabdev auth terms",
            )
        progress("the balance is not positive: Colab's terms forbid SSH, and you chose to go on")

    def _begun(self, request: StartRequest) -> Note:
        """The note of this request, there before Colab is asked."""
        note = self._notes.load(request.name)
        if note is not None and note.request_id != request.request_id:
            if self._of(note) is not None:
                raise ColabdevError(
                    f"cannot start {request.name}: another request has that name",
                    hint=f"colabdev doctor --repair {request.name}, or colabdev down {request.name}",
                )
            note = None
        if note is None:
            adopt = request.hardware.adopt
            self._check_not_ours(adopt)
            note = Note(request.request_id, endpoint=adopt, adopted=adopt is not None)
            self._notes.save(request.name, note)
        crash_point("colab.begun")
        return note

    def _check_not_ours(self, endpoint: str | None) -> None:
        """One runtime under two names would be given back with either."""
        if endpoint is None:
            return
        for name in self._notes.names():
            note = self._notes.load(name)
            if note is not None and note.endpoint == endpoint:
                raise UsageError(
                    f"the runtime {endpoint} is {name!r} here already",
                    hint=f"colabdev connect {name}",
                )

    def _of(self, note: Note) -> Assignment | None:
        """The runtime of a note, as Colab lists it now."""
        if note.endpoint is not None:
            return self._client.find(note.endpoint)
        return self._client.look_up(notebook_hash(note.request_id))

    def _assigned(
        self, request: StartRequest, note: Note, account: Account, progress: Progress
    ) -> Assignment:
        wish = request.hardware
        known = self._of(note)
        if known is not None and note.endpoint is not None:
            _check_same(request.name, known, wish)
            return known
        if note.adopted:
            self._notes.delete(request.name)
            raise UsageError(
                f"this account has no runtime {note.endpoint}", hint="colabdev status lists them"
            )
        accelerators = choose_accelerators(wish.accelerators or wish.preferred, account)
        progress(price_line(accelerators, account, wish.ttl_s or LIFETIME_S))
        # Known without an endpoint: nobody saw yet whether it is what was asked for.
        request_hash = notebook_hash(note.request_id)
        assignment = known or self._ask_until(request_hash, accelerators, wish, progress)
        if assignment.accelerator not in {one.name for one in accelerators}:
            self._unassign(request.name, assignment.endpoint)
            raise NoCapacity(
                f"Colab gave {assignment.accelerator}, which was not asked for; it was given back",
                hint="type the command again",
            )
        progress(f"Colab gave {assignment.accelerator}: {assignment.endpoint}")
        return assignment

    def _ask_until(
        self,
        request_hash: str,
        accelerators: Sequence[Accelerator],
        wish: HardwareWish,
        progress: Progress,
    ) -> Assignment:
        """The first that is free; with `--wait` asked for until one is."""
        delay_s = self._wait_first_s
        while True:
            refusal: NoCapacity | None = None
            may_come = False
            for one in accelerators:
                try:
                    return self._ask_clearly(request_hash, one, wish)
                except NoCapacity as exc:
                    refusal = exc
                    may_come = may_come or isinstance(exc, NoneFree)
                    progress(exc.message)
            assert refusal is not None, "something is asked for"
            if not (wish.wait and may_come):
                raise refusal
            progress(f"asking again in {delay_s:.0f} s; Ctrl-C ends that")
            time.sleep(delay_s)
            delay_s = min(delay_s * 2, _WAIT_CAP_S)

    def _ask_clearly(
        self, request_hash: str, accelerator: Accelerator, wish: HardwareWish
    ) -> Assignment:
        """Ask; and where nobody knows what came of it ask again, by the same name: what was made then
        is found, and not made twice."""
        for attempt in range(_UNCLEAR_TRIES):
            try:
                return self._client.assign(request_hash, accelerator, high_memory=wish.high_memory)
            except Unclear:
                if attempt == _UNCLEAR_TRIES - 1:
                    raise
                time.sleep(_UNCLEAR_FIRST_S * 2**attempt)
        raise AssertionError("the last try returns or raises")

    def _set_up(
        self, assignment: Assignment, request: StartRequest, note: Note, progress: Progress
    ) -> Machine:
        progress(f"waiting for {assignment.endpoint} to answer")
        is_gone = partial(self._client.is_gone, assignment.endpoint)
        with Kernel(assignment, self._answers(assignment), is_gone=is_gone) as kernel:
            progress("setting it up")
            told = _bootstrap(kernel, request.public_key)
            _check_keys(told, assignment)
            progress(", ".join(f"{name} {seconds:.1f} s" for name, seconds in told.steps))
            crash_point("colab.set_up")
            drive_dir = mount_as_wished(
                self._client, assignment.endpoint, kernel, request, progress
            )
        since = note.machine.since if note.machine else datetime.now(UTC)
        wish = _bounds(request.hardware, note)
        tunnel = ColabTunnel(
            assignment.endpoint,
            told.colab_host_keys,
            keep_until=since + timedelta(seconds=wish.ttl_s or LIFETIME_S),
            gives_back=wish.ttl_s is not None,
            max_units=wish.max_units,
        )
        return Machine(
            ssh=SshAddress("127.0.0.1", told.port, "root", told.host_key, tunnel=tunnel),
            content_dir=CONTENT_DIR,
            drive_dir=drive_dir,
            since=since,
            accelerator=None if assignment.accelerator == "none" else assignment.accelerator,
            request_id=note.request_id,
        )

    def _answers(self, assignment: Assignment) -> Callable[..., str | None]:
        return credential_answers(self._client, assignment.endpoint)

    def _unassign(self, name: str, endpoint: str) -> None:
        """Give it back; proved when Colab does not list it any more."""
        self._client.unassign(endpoint)
        crash_point("colab.unassigned")
        deadline = time.monotonic() + RELEASE_TIMEOUT_S
        while self._client.find(endpoint) is not None:
            if time.monotonic() >= deadline:
                raise ReleaseUnproven(
                    f"cannot release {name!r}: Colab still lists {endpoint}; its record is kept",
                    hint=f"colabdev down {name}",
                )
            time.sleep(_RELEASE_POLL_S)


def _bootstrap(kernel: Kernel, public_key: str) -> VmAnswer:
    source = resources.files("colabdev.agent").joinpath("colab_vm.py").read_text(encoding="utf-8")
    printed = kernel.run(render_bootstrap(source, public_key), timeout_s=BOOTSTRAP_TIMEOUT_S)
    try:
        return parse_bootstrap(printed)
    except ValueError as exc:
        raise AgentUnusable(
            f"cannot make sense of what the runtime says of itself: {exc}",
            hint="colabdev connect tries again",
        ) from exc


def _check_keys(told: VmAnswer, assignment: Assignment) -> None:
    """Who answers is the machine that was assigned, and its SSH server can be told from another."""
    if told.hostname and told.hostname != assignment.endpoint:
        raise HostKeyMismatch(
            f"the kernel of {assignment.endpoint} runs on another machine, {told.hostname}",
            hint="colabdev down, then colabdev connect",
        )
    if not told.colab_host_keys:
        raise HostKeyMismatch(
            "cannot tell which host key Colab's own SSH server has, and does not trust just any",
            hint="is there a newer colabdev? colabdev down gives the runtime back",
        )


def _check_same(name: str, known: Assignment, wish: HardwareWish) -> None:
    """A runtime that is there stays what it is."""
    wanted = {one.strip().casefold() for one in wish.accelerators}
    if wanted and known.accelerator.casefold() not in wanted:
        raise UsageError(
            f"{name!r} is a runtime with {known.accelerator} already",
            hint=f"colabdev down {name}, then connect it with the other one",
        )


def _bounds(wish: HardwareWish, note: Note) -> HardwareWish:
    """Of a runtime that is there already, those that it has hold where nothing else is said."""
    known = note.machine.ssh.tunnel if note.machine else None
    if known is None or note.machine is None:
        return wish
    ttl_s = wish.ttl_s
    if ttl_s is None and known.gives_back:
        ttl_s = int((known.keep_until - note.machine.since).total_seconds())
    units = known.max_units if wish.max_units is None else wish.max_units
    return replace(wish, ttl_s=ttl_s, max_units=units)


def _not_set_up(note: Note, assignment: Assignment) -> Machine:
    """A machine that nobody can log in to yet, but that is billed."""
    now = datetime.now(UTC)
    tunnel = ColabTunnel(assignment.endpoint, (), keep_until=now)
    return Machine(
        ssh=SshAddress("127.0.0.1", 22, "root", "", tunnel=tunnel),
        content_dir=CONTENT_DIR,
        drive_dir=None,
        since=now,
        accelerator=None if assignment.accelerator == "none" else assignment.accelerator,
        request_id=note.request_id,
    )
