"""The values that travel between the layers. No behaviour beyond reading and writing themselves."""

from __future__ import annotations

from colabdev.models.editors import Editor, EditorKind
from colabdev.models.jobs import TIMED_OUT_STATUS, Begin, JobRecord, JobState
from colabdev.models.machines import (
    NO_WISH,
    ColabTunnel,
    DriveWish,
    HardwareWish,
    Machine,
    SshAddress,
    StartRequest,
    UserLogin,
)
from colabdev.models.processes import AgentHello, Completed, ExitStatus, Output
from colabdev.models.runtimes import (
    LEAVING_PROVIDERS,
    KeeperAddress,
    Phase,
    ProjectLink,
    RuntimeRecord,
    RuntimeState,
    RuntimeStatus,
)
from colabdev.models.trees import (
    Absence,
    DataPlan,
    Explanation,
    KnownSide,
    SyncedSettings,
    TreeScan,
    Unpacked,
)

__all__ = [
    "LEAVING_PROVIDERS",
    "NO_WISH",
    "TIMED_OUT_STATUS",
    "Absence",
    "AgentHello",
    "Begin",
    "ColabTunnel",
    "Completed",
    "DataPlan",
    "DriveWish",
    "Editor",
    "EditorKind",
    "ExitStatus",
    "Explanation",
    "HardwareWish",
    "JobRecord",
    "JobState",
    "KeeperAddress",
    "KnownSide",
    "Machine",
    "Output",
    "Phase",
    "ProjectLink",
    "RuntimeRecord",
    "RuntimeState",
    "RuntimeStatus",
    "SshAddress",
    "StartRequest",
    "SyncedSettings",
    "TreeScan",
    "Unpacked",
    "UserLogin",
]
