"""
The libraries that agentguard works beside: model clients, web frameworks, pools, retries.

One file a library; each knows it by its shape and imports nothing of it. This
door is loaded by `import agentguard` and stays light: a file here is loaded
when it is used.
"""

from agentguard.integrations.clients import wrap

__all__ = ["wrap"]
