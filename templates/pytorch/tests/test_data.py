"""Which samples each step sees, and where they come from."""

import hashlib
import json
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from config import ConfigError
from data import datasets, shards
from data.order import Order
from data.transforms import Augmented

ORDER = Order(103, 20, seed=5, stop=6)


def test_an_epoch_has_every_sample_once_but_for_the_remainder() -> None:
    keys = [key for batch in replace(ORDER, stop=5) for key in batch]
    assert len({index for _, index in keys}) == len(keys) == 100
    assert {epoch for epoch, _ in keys} == {0}


def test_batch_depends_on_its_step_alone() -> None:
    whole = list(ORDER)
    assert list(replace(ORDER, start=3)) == whole[3:]
    assert whole[5] != whole[0]
    first, second = (list(replace(ORDER, rank=rank, world=2)) for rank in (0, 1))
    assert [sorted(a + b) for a, b in zip(first, second, strict=True)] == [sorted(b) for b in whole]


def test_sample_is_augmented_by_seed_epoch_and_index() -> None:
    samples = datasets.load("digits", Path(), 0.1).train
    one, again, other = (Augmented(samples, 3)[epoch, 11][0] for epoch in (0, 0, 1))
    assert one.equal(again)
    assert not all(Augmented(samples, 3)[epoch, 11][0].equal(one) for epoch in range(9)), other


def test_parts_of_the_data_have_nothing_in_common() -> None:
    splits = datasets.load("digits", Path(), 0.1)
    assert not set(splits.train.indices) & set(splits.valid.indices)
    assert (len(splits.train), len(splits.valid), len(splits.test)) == (1293, 144, 360)


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    """A data set as `colabdev data push` packs it."""
    source = tmp_path / "drive" / "abc"
    (source / "000").mkdir(parents=True)
    rows = []
    for number in (1, 2):
        (tmp_path / f"{number}.txt").write_text(f"sample {number}")
        shard = source / "000" / f"0000{number}.tar"
        with tarfile.open(shard, "w") as tar:
            tar.add(tmp_path / f"{number}.txt", f"texts/{number}.txt")
        digest = hashlib.sha256(shard.read_bytes()).hexdigest()
        rows.append([number, shard.stat().st_size, digest, 1])
    index = {"content": "abc", "shards": rows, "paths": ["000/00001.tar", "000/00002.tar"]}
    (source / "index.json").write_text(json.dumps(index))
    return source


def test_shards_are_copied_once(packed: Path, tmp_path: Path) -> None:
    target = tmp_path / "local" / "texts"
    shards.copy(packed, target)
    assert (target / "texts" / "2.txt").read_text() == "sample 2"
    shutil.rmtree(packed / "000")
    shards.copy(packed, target)


def test_damaged_shard_is_named_and_nothing_appears(packed: Path, tmp_path: Path) -> None:
    with open(packed / "000" / "00002.tar", "r+b") as file:
        file.seek(600)
        file.write(b"x")
    with pytest.raises(ConfigError, match=r"00002.tar is damaged"):
        shards.copy(packed, tmp_path / "texts")
    assert not (tmp_path / "texts").exists()


def test_folder_of_something_else_is_not_replaced(packed: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    with pytest.raises(ConfigError, match="something else is there"):
        shards.copy(packed, tmp_path / "mine")
