"""JSON objects in a store: small files, each written once."""

from __future__ import annotations

import json
import os
import tempfile
from typing import Any, Callable, Dict, Optional, Tuple

from . import manifest
from .manifest import FileEntry
from .stores import Receipt, Store, StoreError, Told

Document = Dict[str, Any]

_MOST_BYTES = 16 * 1024 * 1024


def put(store: Store, path: str, document: Document, told: Told) -> Tuple[Receipt, FileEntry]:
    """Write it where nothing is yet; the same again is harmless."""
    # Not below the job: a claim is made before there is one.
    handle, source = tempfile.mkstemp(prefix="colabdev-")
    try:
        with open(handle, "w", encoding="ascii") as file:
            json.dump(document, file, indent=1, sort_keys=True)
        entry = manifest.digests(source)
        return store.put(path, source, entry, told), entry
    finally:
        os.unlink(source)


def put_once(store: Store, folder: str, name: str, document: Document, told: Told) -> None:
    """Write it, unless there is one of that name; what a kill tore in the writing is none."""
    path = "{}/{}".format(folder, name)
    if name in store.names(folder):
        try:
            json.loads(read(store, path).decode("utf-8"))
        except ValueError:
            store.remove(path)
        else:
            return
    put(store, path, document, told)


def load(store: Store, folder: str, name: str) -> Optional[Document]:
    """The object of that name; None when there is none that can be read."""
    try:
        document = json.loads(read(store, "{}/{}".format(folder, name)).decode("utf-8"))
    except (StoreError, OSError, ValueError):
        return None
    return document if isinstance(document, dict) else None


def load_all(
    store: Store, folder: str, wanted: Callable[[str], bool] = lambda name: True
) -> Dict[str, Document]:
    """Those in the folder that can be read, by their names."""
    found = {name: load(store, folder, name) for name in store.names(folder) if wanted(name)}
    return {name: document for name, document in found.items() if document is not None}


def read(store: Store, path: str) -> bytes:
    """All of a small file; StoreError when it is no small one."""
    content = b""
    for piece in store.fetch(path):
        content += piece
        if len(content) > _MOST_BYTES:
            raise StoreError("{} is too large".format(path))
    return content
