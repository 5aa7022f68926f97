"""What the services need from the outside world, as contracts.

Implementations live in `adapters`, `providers` and `tunnels`; `tests/contract` runs one suite over
every implementation of a port.
"""

from __future__ import annotations

from colabdev.ports.checkpoints import BrokenCopy, CheckpointCopies, ComingCheckpoint, DriveTokens
from colabdev.ports.computer import Computer, EditorPrograms, ReportFiles
from colabdev.ports.folders import BrokenArchive, LocalData, RestoreTarget, Templates
from colabdev.ports.host_entries import EntryFiles, HostEntries, WindowsSide
from colabdev.ports.jobs import JobStore
from colabdev.ports.keepers import Keeper, Keepers
from colabdev.ports.processes import RemoteProcess, Transport
from colabdev.ports.progress import Meter, Progress
from colabdev.ports.runtimes import MortalProvider, Provider, RuntimeStore
from colabdev.ports.streams import AgentStream, ByteStream, LocalPort
from colabdev.ports.trees import LocalTree, Steps, SyncedProject, SyncMemory, TreeWatch

__all__ = [
    "AgentStream",
    "BrokenArchive",
    "BrokenCopy",
    "ByteStream",
    "CheckpointCopies",
    "ComingCheckpoint",
    "Computer",
    "DriveTokens",
    "EditorPrograms",
    "EntryFiles",
    "HostEntries",
    "JobStore",
    "Keeper",
    "Keepers",
    "LocalData",
    "LocalPort",
    "LocalTree",
    "Meter",
    "MortalProvider",
    "Progress",
    "Provider",
    "RemoteProcess",
    "ReportFiles",
    "RestoreTarget",
    "RuntimeStore",
    "Steps",
    "SyncMemory",
    "SyncedProject",
    "Templates",
    "Transport",
    "TreeWatch",
    "WindowsSide",
]
