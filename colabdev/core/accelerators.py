"""Whether a runtime has one of the GPUs that were asked for."""

from __future__ import annotations

import re
from collections.abc import Sequence


def complain_of_gpu(wanted: Sequence[str], found: str | None) -> str:
    """A sentence when the GPU `found` (as the driver names it; None for none) is none of those that the
    project names, "" when it is, or names none."""
    if not wanted or (found and any(_words(name) <= _words(found) for name in wanted)):
        return ""
    asked = wanted[0] if len(wanted) == 1 else f"{', '.join(wanted[:-1])} or {wanted[-1]}"
    return f"[runtime] gpu of colabdev.toml asks for {asked}; this runtime has {found or 'no GPU'}"


def _words(name: str) -> set[str]:
    """`NVIDIA A100-SXM4-40GB` has the word `a100`; `Tesla T4` is no `T`."""
    return set(re.findall("[a-z0-9]+", name.lower()))


def rented_name(found: str | None) -> str | None:
    """What Colab calls the accelerator `found`, as the driver or Colab itself names it; `none` for a
    machine without, None for one that this version has never heard of."""
    if not found:
        return "none"
    words = _words(found)
    if {"rtx", "pro", "6000"} <= words:
        return "G4"
    known = (word.upper() for word in sorted(words) if re.fullmatch("[a-z][0-9]+(e[0-9]+)?", word))
    return next(known, None)
