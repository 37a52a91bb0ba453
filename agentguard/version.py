"""The version of this distribution; here, so that no room imports the package root."""

__version__ = "0.1.0"
