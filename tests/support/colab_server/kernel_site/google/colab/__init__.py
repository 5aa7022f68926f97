"""`google.colab` of a runtime of the stand-in: the parts of the real one that talk to the client."""

from . import auth, drive, runtime, userdata

__all__ = ["auth", "drive", "runtime", "userdata"]
