"""The accelerators there are, and what a machine with one says of itself."""

from __future__ import annotations

from dataclasses import dataclass

VARIANTS = ("DEFAULT", "GPU", "TPU")
"""Their index is the number that assignments carry."""


@dataclass(frozen=True, slots=True)
class Accelerator:
    name: str
    variant: str
    device: str
    """What `nvidia-smi` calls it."""
    memory_mib: int
    single_shape: bool = False
    """There is no high-RAM machine to choose: `shape` is ignored."""
    rate_hourly: float = 1.0
    """Compute units an hour."""


@dataclass(frozen=True, slots=True)
class Hardware:
    """What is asked for, and given."""

    accelerator: Accelerator
    high_ram: bool


ACCELERATORS = {
    row.name: row
    for row in (
        Accelerator("NONE", "DEFAULT", "", 0, rate_hourly=0.08),
        Accelerator("T4", "GPU", "Tesla T4", 15360, rate_hourly=1.07),
        Accelerator("L4", "GPU", "NVIDIA L4", 23034, single_shape=True, rate_hourly=1.54),
        Accelerator("A100", "GPU", "NVIDIA A100-SXM4-40GB", 40960, rate_hourly=5.3),
        Accelerator("G4", "GPU", "NVIDIA RTX PRO 6000 Blackwell", 97887, rate_hourly=8.9),
        Accelerator("H100", "GPU", "NVIDIA H100 80GB HBM3", 81559, rate_hourly=11.0),
        Accelerator("V5E1", "TPU", "TPU v5e", 16384, single_shape=True, rate_hourly=3.0),
        Accelerator("V6E1", "TPU", "TPU v6e", 32768, single_shape=True, rate_hourly=4.0),
    )
}


def endpoint_prefix(accelerator: Accelerator, *, high_ram: bool) -> str:
    """`m-s`, `gpu-t4-s`, `gpu-a100-hm`, `tpu-v5e1-s`."""
    kind = {"DEFAULT": "m", "GPU": "gpu-", "TPU": "tpu-"}[accelerator.variant]
    name = "" if accelerator.variant == "DEFAULT" else accelerator.name.lower()
    return f"{kind}{name}-{'hm' if high_ram else 's'}"
