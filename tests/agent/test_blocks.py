"""Finding an old version's blocks in a new one: right whatever is asked, and good where it should be."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from colabdev.agent import blocks
from colabdev.agent.changes import NEW

PIECES = [hashlib.sha256(bytes([number])).digest() * 700 for number in range(8)]
PIECES += [bytes(20_000), b"\x01", b"ab" * 5000]


def rebuilt(old: bytes, new: bytes, recipe: blocks.Recipe) -> bytes:
    made, position = [], 0
    for offset, length in recipe:
        start = position if offset == NEW else offset
        made.append((new if offset == NEW else old)[start : start + length])
        position += length
    return b"".join(made)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.sampled_from(PIECES), max_size=10), st.lists(st.sampled_from(PIECES), max_size=10)
)
def test_recipe_makes_the_new_file(tmp_path: Path, before: list[bytes], after: list[bytes]) -> None:
    old, new = b"".join(before), b"".join(after)
    (tmp_path / "old").write_bytes(old)
    (tmp_path / "new").write_bytes(new)
    digest, signature = blocks.sign(str(tmp_path / "old"))
    assert digest == hashlib.sha256(old).hexdigest()
    signature = blocks.signature_from_bytes(signature.to_bytes())
    recipe = blocks.find_recipe(signature, str(tmp_path / "new"))
    if recipe:
        assert rebuilt(old, new, recipe) == new


@pytest.mark.parametrize("data", [b"", b"x" * 11, b"\xff" * 12, b"\0" * 12, b"\0" * 50])
def test_what_is_no_signature_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="no signature"):
        blocks.signature_from_bytes(data)


def test_large_file_has_no_more_blocks_than_are_worth_sending(tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(600_000_000)
    _, signature = blocks.sign(str(tmp_path / "large"))
    assert len(signature.to_bytes()) < 300_000
