"""How the documentation is built: `make docs`. A warning is an error."""

from agentguard.version import __version__

project = "agentguard"
author = "The agentguard authors"
release = __version__
extensions = ["myst_parser"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = f"agentguard {release}"
exclude_patterns = ["_build"]
suppress_warnings = ["myst.xref_missing"]
nitpicky = True
