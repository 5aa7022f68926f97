"""Data classes that cost nothing to define.

A data class is made by compiling its methods, which takes a part of a millisecond of every command's
start for each kind of value that is known to it; and most commands build few of them. So it is made when
the first one is built.
"""

from __future__ import annotations

import _thread
import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

__all__ = ["dataclass"]

T = TypeVar("T")
_POSTPONED = "__postponed_dataclass__"
_MAKING = _thread.allocate_lock()

if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(**options: bool) -> Callable[[type[T]], type[T]]:
        """As `dataclasses.dataclass`, but without slots: a class that has them is another class."""

        def postpone(kind: type[T]) -> type[T]:
            setattr(kind, _POSTPONED, {**options, "slots": False})
            kind.__init__ = _make
            return kind

        return postpone


def _make(self: Any, *arguments: Any, **named: Any) -> None:
    """Stands where the class's own `__init__` will."""
    with _MAKING:
        for kind in reversed(type(self).__mro__):
            options = kind.__dict__.get(_POSTPONED)
            if options is not None:
                delattr(kind, "__init__")
                dataclasses.dataclass(**options)(kind)
                delattr(kind, _POSTPONED)
    self.__init__(*arguments, **named)
