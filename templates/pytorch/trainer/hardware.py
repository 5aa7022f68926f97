"""What to compute on, and how precisely: by what there is, and with the reason said."""

import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from config import ConfigError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(wanted: str) -> tuple[torch.device, str]:
    """The device, and why that one."""
    found = {
        "cuda": torch.cuda.is_available() and "a CUDA GPU was found",
        "mps": torch.backends.mps.is_available() and "an Apple GPU was found",
        "cpu": "no GPU was found",
    }
    kind = next(kind for kind in found if found[kind]) if wanted == "auto" else wanted
    if not found[kind]:
        raise ConfigError(
            f"device {kind} was asked for, but PyTorch finds no such GPU here;"
            " device=auto takes what there is"
        )
    index = None
    if kind == "cuda":
        # Of several processes on one machine each takes the GPU of its number.
        index, there = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
        if index >= there:
            raise ConfigError(f"process {index} has no GPU: there are {there} here")
        torch.cuda.set_device(index)
    return torch.device(kind, index), found[kind] if wanted == "auto" else "as asked for"


def name_of(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def choose_precision(wanted: str, device: torch.device) -> tuple[str, str]:
    """fp32, bf16 or fp16, and why."""
    if device.type == "mps" and wanted in ("bf16", "fp16"):
        raise ConfigError(f"trainer.precision {wanted} is for CUDA GPUs and CPUs; use fp32")
    if wanted != "auto":
        return wanted, "as asked for"
    if device.type != "cuda":
        return "fp32", "only CUDA GPUs gain from less"
    # Without this argument a T4 says yes, because it can emulate bf16, slowly.
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return "bf16", "this GPU computes with it natively"
    return "fp16", "this GPU has no native bf16; with a gradient scaler"


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """Where operations that can do with less precision do, when it was chosen."""
    return nullcontext() if precision == "fp32" else torch.autocast(device.type, DTYPES[precision])


def make_deterministic(wanted: bool) -> None:
    """The same numbers again on the same kind of machine; some operations take longer so."""
    # Read by CUDA when it starts, so this comes before the first use of a GPU.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(wanted)
    torch.backends.cudnn.benchmark = not wanted


def is_out_of_memory(exc: RuntimeError) -> bool:
    """GPUs have an exception for it, CPUs only a sentence."""
    return isinstance(exc, torch.OutOfMemoryError) or "can't allocate memory" in str(exc)
