"""What a job needs to be started once more, on a machine like the one that it had."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from colabdev.models.machines import NO_WISH, HardwareWish
from colabdev.models.tunnels import TunnelUse


@dataclass(frozen=True, slots=True)
class MachineWish:
    """A machine as one that there was."""

    provider: str
    hardware: HardwareWish = NO_WISH
    """Of its accelerators the first is what it had, the others are those that the project takes, too."""
    tunnel: TunnelUse | None = None
    """As it was asked for."""
    python: str | None = None


@dataclass(frozen=True, slots=True)
class JobOrder:
    """Its `order.json`. It holds no secret: those are in a keeper's memory alone."""

    arguments: Mapping[str, object]
    """Of its first `job.start`: `spec`, and what else does not belong to one machine alone."""
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Its variables, but for those in `held`."""
    held: tuple[str, ...] = ()
    """The variables whose values only a keeper has."""
    resume: str | None = None
    """How its script is told of a checkpoint: `--resume {path}`; None: by the environment alone."""
    machine: MachineWish = field(default_factory=lambda: MachineWish(""))
    project_path: str | None = None
    project_name: str | None = None
    taken_over: bool = False
    """Another computer started it, and this one was told to go on with it."""

    @property
    def spec(self) -> Mapping[str, object]:
        """What was started."""
        spec = self.arguments.get("spec")
        return spec if isinstance(spec, Mapping) else {}

    @property
    def tree(self) -> str | None:
        """The hash of the files that it is started from, where that is known."""
        tree = self.spec.get("tree")
        return tree if isinstance(tree, str) else None

    def with_tree(self, tree: str) -> JobOrder:
        """The same, started from those files."""
        return replace(self, arguments={**self.arguments, "spec": {**self.spec, "tree": tree}})
