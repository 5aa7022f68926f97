"""A data set that `colabdev data push` packed, copied from a mounted Drive to the local disk once.

Drive is slow with many small files and fast with a few large ones. So it holds tars, and an `index.json`
with the size and the sha256 of each; what arrives is checked before it is unpacked.
"""

import hashlib
import json
import os
import shutil
import tarfile
from pathlib import Path

from config import ConfigError


def copy(source: Path, target: Path) -> None:
    """Unpack the shards in `source`, a folder with an index.json, to `target`, unless they are there.

    `target` appears when it is whole; what was unpacked before a kill is unpacked again.
    """
    staging, mark = target.with_name(f".{target.name}.part"), ".shards"
    try:
        index = json.loads((source / "index.json").read_bytes())
        if (target / mark).is_file() and (target / mark).read_text() == index["content"]:
            return
        if target.exists():
            raise ConfigError(
                f"cannot copy {source} to {target}: something else is there; move it away"
            )
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        for path, (_, _, sha256, _) in zip(index["paths"], index["shards"], strict=True):
            unpack(source / path, sha256, staging)
            print(f"copied {path} to {target}")
        (staging / mark).write_text(index["content"])
        os.rename(staging, target)
    except OSError as exc:
        raise ConfigError(f"cannot copy the data in {source}: {exc.strerror or exc}") from exc
    except (ValueError, KeyError, TypeError, tarfile.TarError) as exc:
        raise ConfigError(f"cannot copy the data in {source}: it is no whole data set") from exc


def unpack(shard: Path, sha256: str, folder: Path) -> None:
    """Copy a shard, prove it, unpack it, and delete the copy: Drive is read once."""
    part = folder / ".shard.tar"
    shutil.copyfile(shard, part)
    with open(part, "rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
            raise ConfigError(f"{shard} is damaged: its sha256 is not what index.json says")
    with tarfile.open(part) as tar:
        tar.extractall(folder, filter="data")
    part.unlink()
