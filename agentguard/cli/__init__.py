"""
The command line: `agentguard COMMAND`.

Takes what people type, gives text. Every command is one file beside this one,
loaded only when it runs. Data goes to standard output, everything else to
standard error. Exit status: 0 fine, 1 findings, 2 unusable input.
"""

from agentguard.cli._main import main

__all__ = ["main"]
