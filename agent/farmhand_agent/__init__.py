"""The farmhand agent: samples the cards of one node and ships what they say."""

from importlib.metadata import version

__version__ = version("farmhand")
