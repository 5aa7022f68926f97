"""What is kept of a start so that the job can be started once more, elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from colabdev.agent import jobdir
from colabdev.core.accelerators import rented_name
from colabdev.core.recovery import FREE, RENTED
from colabdev.core.redact import is_secret_name
from colabdev.core.workdirs import usable_machine
from colabdev.models import NO_WISH, HardwareWish, RuntimeRecord
from colabdev.models.orders import JobOrder, MachineWish

if TYPE_CHECKING:
    from colabdev.services.starts import RunRequest


def may_start_again(request: RunRequest, runtime: RuntimeRecord) -> bool:
    """Whether the job could go on on another machine, once somebody wants that."""
    is_replaced = runtime.provider in RENTED | FREE
    return is_replaced and request.checkpoints is not None and request.stdin == jobdir.NO_INPUT


def order_of(request: RunRequest, runtime: RuntimeRecord, spec: Mapping[str, object]) -> JobOrder:
    """The order of a job that is about to be started there by that spec."""
    held = {name for name in request.env if is_secret_name(name)} | request.secret_names
    return JobOrder(
        arguments={"spec": {**spec, "after": []}},
        env={name: value for name, value in request.env.items() if name not in held},
        held=tuple(sorted(held & request.env.keys())),
        resume=request.checkpoints.resume if request.checkpoints else None,
        machine=machine_like(runtime, request.gpu),
        project_path=request.project_path,
        project_name=request.project_name,
    )


def machine_like(runtime: RuntimeRecord, alternatives: tuple[str, ...]) -> MachineWish:
    """What to ask for to get a machine like that one, or one of the alternatives that its user named."""
    hardware = _hardware_like(runtime, alternatives) if runtime.provider in RENTED else NO_WISH
    tunnel = runtime.tunnel and runtime.tunnel.wish
    return MachineWish(runtime.provider, hardware, tunnel, runtime.python)


def _hardware_like(runtime: RuntimeRecord, alternatives: tuple[str, ...]) -> HardwareWish:
    machine = usable_machine(runtime)
    same = rented_name(machine.accelerator)
    names = dict.fromkeys([*([same] if same else []), *(name.upper() for name in alternatives)])
    wish = HardwareWish(tuple("none" if name == "NONE" else name for name in names))
    tunnel = machine.ssh.tunnel
    if tunnel is None:
        return wish
    life = tunnel.keep_until - machine.since
    ttl_s = int(life.total_seconds()) if tunnel.gives_back else None
    return replace(wish, ttl_s=ttl_s, max_units=tunnel.max_units)
