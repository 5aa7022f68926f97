"""Our part of the OpenSSH configuration as a whole: showing it, mending it, taking it out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from colabdev.errors import ColabdevError, StateUnreadable
from colabdev.models import Phase
from colabdev.ports import EntryFiles, HostEntries
from colabdev.services.runtimes import Runtimes


@dataclass(frozen=True, slots=True)
class ShownEntries:
    """What ssh reads of ours."""

    main_file: Path
    include_line: str
    """What belongs at that file's top."""
    stanzas: Sequence[str]


@dataclass(frozen=True, slots=True)
class EntriesRepaired:
    """What the entries are after they were written anew."""

    written: Sequence[str]
    dropped: Sequence[str] = ()
    """Entries of runtimes that are none any more."""
    by_hand: str = ""
    """What only the user can do."""
    overruled: Sequence[str] = ()
    """Entries that something in the user's configuration is stronger than."""
    unreadable: Sequence[StateUnreadable] = ()
    """The entries of these were left as they were."""


@dataclass(frozen=True, slots=True)
class EntriesRemoved:
    """What was taken out."""

    names: Sequence[str]
    by_hand: str = ""


class Entries:
    """Everything that `connect` writes and `down` removes, on its own."""

    def __init__(self, *, runtimes: Runtimes, entries: HostEntries, files: EntryFiles) -> None:
        self._runtimes = runtimes
        self._entries = entries
        self._files = files

    def show(self, name: str | None) -> ShownEntries:
        """The entry of that name, or all."""
        names = self._entries.names() if name is None else [name]
        stanzas = [self._files.stanza(each) for each in names]
        if name is not None and not stanzas[0]:
            raise self._unknown(name)
        return ShownEntries(self._files.main_file, self._files.include_line(), stanzas)

    def repair(self) -> EntriesRepaired:
        """Write from the records what should be there, and take out what should not."""
        records, unreadable = self._runtimes.records()
        up = [each for each in records if each.ssh and each.phase is not Phase.RELEASING]
        self._entries.public_key()
        self._files.tighten()
        for record in up:
            self._entries.write(record)
        kept = {each.name for each in records} if not unreadable else set(self._entries.names())
        dropped = [name for name in self._entries.names() if name not in kept]
        for name in dropped:
            self._entries.remove(name)
        by_hand = self._entries.include()
        written = [record.name for record in up]
        overruled = [] if by_hand else [each for each in written if not self._files.is_taken(each)]
        return EntriesRepaired(written, dropped, by_hand, overruled, unreadable)

    def remove(self, name: str | None) -> EntriesRemoved:
        """Take out the entry of that name; or all of them, and our line in the user's own file."""
        names = self._entries.names()
        if name is not None:
            if name not in names:
                raise self._unknown(name)
            self._entries.remove(name)
            return EntriesRemoved([name])
        for each in names:
            self._entries.remove(each)
        return EntriesRemoved(names, self._entries.exclude())

    def _unknown(self, name: str) -> ColabdevError:
        names = ", ".join(self._entries.names())
        return ColabdevError(
            f"there is no host entry {name!r}" + (f"; there are {names}" if names else ""),
            hint="colabdev ssh-config print" if names else "colabdev connect writes one",
        )
