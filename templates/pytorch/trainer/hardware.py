"""What to compute on, and how precisely: by what there is, and with the reason said."""

import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from config import ConfigError

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(wanted: str) -> torch.device:
    """A GPU if there is one, unless another was asked for."""
    # Of several processes on one machine each takes the GPU of its number.
    index, there = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if wanted == "cpu" or (wanted == "auto" and there == 0):
        return torch.device("cpu")
    if index >= there:
        raise ConfigError(
            f"device {wanted} was asked for, but PyTorch finds {there} CUDA GPUs here, and this"
            f" process needs one; device=cpu does without"
        )
    torch.cuda.set_device(index)
    return torch.device("cuda", index)


def name_of(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def choose_precision(wanted: str, device: torch.device) -> tuple[str, str]:
    """fp32, bf16 or fp16, and why."""
    if wanted != "auto":
        return wanted, "as asked for"
    if device.type != "cuda":
        return "fp32", "only GPUs gain from less"
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
