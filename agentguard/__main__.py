"""`python -m agentguard`: the command line."""

from agentguard.cli import main

main()
