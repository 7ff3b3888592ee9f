"""The farmhand agent: samples the cards of one node and ships what they say."""

__version__: str


def __getattr__(name: str) -> str:
    """Look the version up when it is asked for.

    What that needs takes 4 MB, and a reader process never asks.
    """
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import version

    return version("farmhand")
