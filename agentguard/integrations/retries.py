"""
Retries as data: one line for tenacity, stamina, httpx and httpx2.

Each hook records what it is told on the span of the call that is running:
attempts, causes, waits. None of them sleeps, decides or raises.

    httpx.Client(event_hooks=http_hooks().as_event_hooks())
    httpx.AsyncClient(event_hooks=async_http_hooks().as_event_hooks())
    @tenacity.retry(before_sleep=tenacity_hook)
    stamina.instrumentation.set_on_retry_hooks(
        [*stamina.instrumentation.get_on_retry_hooks(), stamina_hook]
    )

The same for httpx2. A client that exists already: `agentguard.wrap(client)`.
"""

from agentguard.capture import HttpHooks, async_http_hooks, http_hooks, stamina_hook, tenacity_hook

__all__ = ["HttpHooks", "async_http_hooks", "http_hooks", "stamina_hook", "tenacity_hook"]
