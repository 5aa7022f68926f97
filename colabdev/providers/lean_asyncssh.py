"""asyncssh, loaded without its search for liboqs.

HACK: it asks `ctypes.util.find_library`, which runs ldconfig, a compiler and a linker, each time; what
liboqs would give it cryptography has. The way out: asyncssh looks for it when it is needed.
"""

from __future__ import annotations

import ctypes.util

_find_library = ctypes.util.find_library
ctypes.util.find_library = lambda name: None
try:
    import asyncssh
    from asyncssh.channel import SSHChannel
    from asyncssh.packet import SSHPacket
    from asyncssh.stream import SSHServerStreamSession
finally:
    ctypes.util.find_library = _find_library

__all__ = ["SSHChannel", "SSHPacket", "SSHServerStreamSession", "asyncssh"]
