"""The one error that ends a build with a sentence for its reader instead of a traceback."""


class BuildError(Exception):
    """What stopped the build and what to do about it, in one message."""
