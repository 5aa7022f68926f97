"""Which GPU counts as the one that was asked for."""

from __future__ import annotations

import pytest

from colabdev.core.accelerators import complain_of_gpu


@pytest.mark.parametrize(
    ("wanted", "found", "says"),
    [
        ((), None, ""),
        (("T4",), "Tesla T4", ""),
        (("L4", "T4"), "NVIDIA L4", ""),
        (("A100",), "NVIDIA A100-SXM4-40GB", ""),
        (
            ("A100 80GB",),
            "NVIDIA A100-SXM4-40GB",
            "asks for A100 80GB; this runtime has NVIDIA A100",
        ),
        (("T4",), None, "asks for T4; this runtime has no GPU"),
        (
            ("L4", "A100", "H100"),
            "Tesla T4",
            "asks for L4, A100 or H100; this runtime has Tesla T4",
        ),
        (("L4",), "NVIDIA L40", "asks for L4; this runtime has NVIDIA L40"),
    ],
)
def test_gpu_that_is_not_what_was_asked_for_is_said(
    wanted: tuple[str, ...], found: str | None, says: str
) -> None:
    said = complain_of_gpu(wanted, found)
    assert says in said
    assert bool(said) == bool(says)
