"""What the NVIDIA GPUs of this machine are at: by NVML in this process, else by nvidia-smi."""

from __future__ import annotations

import ctypes
import subprocess
from typing import Any, Callable, Dict, List, Optional

Reading = List[Dict[str, Any]]
"""For each GPU `name`, `percent` (of the time that it was busy), `memory_bytes` and
`memory_total_bytes`; None for what it does not say."""

# Behind the first: where Colab and WSL keep it, which not every login's search path has.
_LIBRARIES = (
    "libnvidia-ml.so.1",
    "/usr/lib64-nvidia/libnvidia-ml.so.1",
    "/usr/lib/wsl/lib/libnvidia-ml.so.1",
)
_NAME_BYTES = 96
_MIB = 1024 * 1024
_SMI_TIMEOUT_S = 20.0
_SMI = [
    "nvidia-smi",
    "--query-gpu=name,utilization.gpu,memory.used,memory.total",
    "--format=csv,noheader,nounits",
]


class _Utilization(ctypes.Structure):
    _fields_ = [("gpu", ctypes.c_uint), ("memory", ctypes.c_uint)]


class _Memory(ctypes.Structure):
    _fields_ = [
        ("total", ctypes.c_ulonglong),
        ("free", ctypes.c_ulonglong),
        ("used", ctypes.c_ulonglong),
    ]


def find_gpus() -> Callable[[], Reading]:
    """How to read them: a function that is cheap with NVML, and starts a program without."""
    for path in _LIBRARIES:
        try:
            nvml = ctypes.CDLL(path)
        except OSError:
            continue
        if nvml.nvmlInit_v2() == 0:
            return lambda: _by_nvml(nvml)
    return _by_smi if _by_smi() else list


def _by_nvml(nvml: Any) -> Reading:
    count = ctypes.c_uint()
    if nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)) != 0:
        return []
    return [reading for index in range(count.value) for reading in _one_by_nvml(nvml, index)]


def _one_by_nvml(nvml: Any, index: int) -> Reading:
    device = ctypes.c_void_p()
    if nvml.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(device)) != 0:
        return []
    name = ctypes.create_string_buffer(_NAME_BYTES)
    busy, memory = _Utilization(), _Memory()
    has_name = nvml.nvmlDeviceGetName(device, name, _NAME_BYTES) == 0
    has_busy = nvml.nvmlDeviceGetUtilizationRates(device, ctypes.byref(busy)) == 0
    has_memory = nvml.nvmlDeviceGetMemoryInfo(device, ctypes.byref(memory)) == 0
    return [
        {
            "name": name.value.decode("ascii", "replace") if has_name else None,
            "percent": busy.gpu if has_busy else None,
            "memory_bytes": memory.used if has_memory else None,
            "memory_total_bytes": memory.total if has_memory else None,
        }
    ]


def _by_smi() -> Reading:
    try:
        done = subprocess.run(
            _SMI,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_SMI_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    if done.returncode != 0:
        return []
    lines = done.stdout.decode("utf-8", "replace").splitlines()
    return [_parsed(*row) for row in (line.split(", ") for line in lines) if len(row) == 4]


def _parsed(name: str, percent: str, used: str, total: str) -> Dict[str, Any]:
    return {
        "name": name,
        "percent": _number(percent),
        "memory_bytes": _number(used, _MIB),
        "memory_total_bytes": _number(total, _MIB),
    }


def _number(text: str, factor: int = 1) -> Optional[int]:
    """`[N/A]` is no number, and none is invented."""
    return int(text) * factor if text.strip().isdigit() else None
