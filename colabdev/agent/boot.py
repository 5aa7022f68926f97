"""What `python3 -I -c` runs on the runtime: make sure that the right agent is there, then become it.

Arguments: the agent's digest and the size of its archive in bytes. On stdout, a line each:

    colabdev-agent send            send exactly that many bytes on stdin; one of the others follows
    colabdev-agent have            the verified agent is here; its own frames follow
    colabdev-agent old X.Y.Z       this Python is too old
    colabdev-agent fail REASON     it cannot be stored here

The agent is a folder of sources here, beside which Python keeps their bytecode: it is compiled once.
All sources are hashed before every use, so a torn or altered one is replaced and never run. The syntax
is older than 3.8 on purpose: an older Python must get far enough to say what it is.
"""

import contextlib
import hashlib
import io
import os
import runpy
import shutil
import sys
import zlib
from typing import List, Mapping


def digest_of(sources: Mapping[str, bytes]) -> str:
    """sha256 in hex of an agent, as {path in its folder: content}."""
    whole = hashlib.sha256()
    for name in sorted(sources):
        whole.update("{} {}\n".format(name, len(sources[name])).encode("utf-8"))
        whole.update(sources[name])
    return whole.hexdigest()


def say(words: str) -> None:
    os.write(1, ("colabdev-agent " + words + "\n").encode("ascii", "replace"))


def names_in(folder: str) -> List[str]:
    found = []
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name != "__pycache__"]
        found += [os.path.relpath(os.path.join(place, name), folder) for name in files]
    return found


def read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def is_intact(folder: str, digest: str) -> bool:
    try:
        sources = {name: read(os.path.join(folder, name)) for name in names_in(folder)}
    except OSError:
        return False
    return digest_of(sources) == digest


def receive(digest: str, size: int) -> Mapping[str, bytes]:
    import zipfile  # Slow, and nearly always the agent is here already.

    say("send")
    try:
        with zipfile.ZipFile(io.BytesIO(sys.stdin.buffer.read(size))) as archive:
            sources = {name: archive.read(name) for name in archive.namelist()}
    except (zipfile.BadZipFile, zlib.error):
        sources = {}
    if digest_of(sources) != digest:
        raise OSError("the agent arrived damaged")
    return sources


def write(folder: str, sources: Mapping[str, bytes]) -> None:
    """File by file, because others may be at the same, or may run what is there."""
    staging = "{}.{}".format(folder, os.getpid())
    try:
        for name, content in sources.items():
            path = os.path.join(folder, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(staging, "wb") as file:
                file.write(content)
            os.replace(staging, path)
        for name in set(names_in(folder)) - set(sources):
            with contextlib.suppress(FileNotFoundError):  # Somebody else was quicker.
                os.unlink(os.path.join(folder, name))
    except OSError:
        remove(staging, folder)
        raise


def remove(staging: str, folder: str) -> None:
    """Where there was no room for all of it, a part takes none."""
    if os.path.exists(staging):
        os.unlink(staging)
    shutil.rmtree(folder, ignore_errors=True)


def main(digest: str, size: int) -> None:
    if sys.version_info < (3, 8):
        say("old {}.{}.{}".format(*sys.version_info[:3]))
        return
    cache = os.path.join(os.path.expanduser("~"), ".cache", "colabdev")
    folder = os.path.join(cache, "agent-" + digest)
    try:
        if not is_intact(folder, digest):
            os.makedirs(cache, exist_ok=True)
            write(folder, receive(digest, size))
    except OSError as error:
        say("fail {}".format(error).replace("\n", " "))
        return
    say("have")
    sys.argv = [folder]
    runpy.run_path(folder, run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
