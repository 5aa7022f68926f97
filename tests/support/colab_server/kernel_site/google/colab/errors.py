"""What the parts of this package raise."""


class Error(Exception):
    """The base of all."""


class AuthorizationError(Error):
    """Authenticating the user failed."""


class RuntimeManagementError(Error):
    """The runtime could not be told something."""
