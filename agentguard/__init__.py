"""
Middleware that wraps AI agents and governs them.

A decorator marks a call; policy decides before it, telemetry records it in
encrypted local storage, and a background checker says whether it is still the
agent that was tested.
"""

__version__ = "0.1.0"
