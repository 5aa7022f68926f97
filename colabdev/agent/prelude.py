"""How far a job is before its command runs, as told by the process that is to become the command.

That process waits for other jobs and installs what the command requires (`preparing.py`), and says how
it goes by one letter each on a pipe. When the supervisor is gone the letter kills it: what nobody
supervises does not begin.
"""

from __future__ import annotations

import os
from typing import Any, Dict, List, Optional

from . import jobdir
from .jobdir import JobFiles

_LETTERS = {
    b"q": jobdir.QUEUED,
    b"i": jobdir.STARTING,
    b"r": jobdir.RUNNING,
    b"s": jobdir.STOPPED,
}


def is_needed(spec: Dict[str, Any]) -> bool:
    """Whether there is anything to do before the command may run."""
    return bool(
        spec.get("after") or spec.get("requirements") or spec.get("kind") == jobdir.NOTEBOOK
    )


class Prelude:
    """The pipe; made before the fork."""

    def __init__(self, files: JobFiles) -> None:
        self.files = files
        self.reader: Optional[int]
        self.reader, self._writer = os.pipe()
        os.set_blocking(self.reader, False)

    def hand_over(self) -> None:
        """In the supervisor: the other end is the child's alone."""
        os.close(self._writer)

    def tell(self, state: str) -> None:
        """In the child: it is that far. SIGPIPE ends it when nobody supervises it."""
        os.write(self._writer, next(letter for letter, known in _LETTERS.items() if known == state))

    def read(self) -> List[str]:
        """The states that were told since; none without one, or when all is said."""
        if self.reader is None:
            return []
        try:
            letters = os.read(self.reader, 4096)
        except BlockingIOError:
            return []
        if not letters:
            os.close(self.reader)
            self.reader = None
        return [_LETTERS[letters[at : at + 1]] for at in range(len(letters))]
