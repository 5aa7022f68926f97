"""Host entries, as text and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

from colabdev.cli import output

if TYPE_CHECKING:
    from colabdev.services.editors import Opened
    from colabdev.services.entries import EntriesRemoved, EntriesRepaired, ShownEntries


def entries(shown: ShownEntries, *, alone: bool) -> None:
    """What ssh reads; with `alone` nothing beside the stanza."""
    if not alone:
        output.line(f"# At the very top of {shown.main_file}:\n{shown.include_line}")
    for stanza in shown.stanzas:
        output.line(stanza.rstrip("\n") if alone else f"\n{stanza}".rstrip("\n"))


def repaired(done: EntriesRepaired, *, as_json: bool) -> None:
    """What is there now, and what else the user can do."""
    if as_json:
        document: dict[str, object] = {
            "written": list(done.written),
            "dropped": list(done.dropped),
            "by_hand": done.by_hand,
            "overruled": list(done.overruled),
        }
        if done.unreadable:
            document["error"] = done.unreadable[0].to_json()
        output.document(document)
        return
    output.line(f"in order: {', '.join(done.written) or 'no entries, as nothing is up'}")
    if done.dropped:
        output.line(f"taken out: {', '.join(done.dropped)}")
    for exc in done.unreadable:
        output.say(f"colabdev: {exc.message}")
        output.say(f"  next: {exc.hint}")
    if done.by_hand:
        output.progress(done.by_hand)
    for name in done.overruled:
        output.progress(
            f"something in your own configuration is stronger than the entry {name}; "
            f"ssh -G {name} shows what ssh makes of both"
        )


def removed(done: EntriesRemoved, *, as_json: bool) -> None:
    """What is out."""
    if as_json:
        output.document({"removed": list(done.names), "by_hand": done.by_hand})
        return
    output.line(f"taken out: {', '.join(done.names) or 'nothing was there'}")
    if done.by_hand:
        output.progress(done.by_hand)
    if done.names:
        output.progress("colabdev ssh-config repair writes them again, and so does connect")


def opened(runtime: str, done: Opened, *, as_json: bool) -> None:
    """What the editor was told to open."""
    if as_json:
        output.document({"runtime": runtime, "editor": done.kind.command, "path": done.path})
        return
    output.line(f"{done.kind.title} opens {output.printable(done.path)} on {runtime}")
