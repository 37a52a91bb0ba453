"""Our own requests are no work of the application: its instrumentation looks away from them."""

from __future__ import annotations


class without_instrumentation:  # noqa: N801 - reads as the statement that it is
    """Keep the application's instrumentation from making spans of our own requests."""

    def __enter__(self) -> None:
        # Imported here: it is the exporter's thread that needs it, not whoever imports this room.
        from opentelemetry import context

        value = context.get_current()
        # The API's own keys, which carry a random part, and the plain one that older instrumentations ask for.
        for key in ("_SUPPRESS_INSTRUMENTATION_KEY", "_SUPPRESS_HTTP_INSTRUMENTATION_KEY"):
            value = context.set_value(getattr(context, key, key), True, value)
        value = context.set_value("suppress_instrumentation", True, value)
        self._context, self._token = context, context.attach(value)

    def __exit__(self, *_: object) -> None:
        self._context.detach(self._token)
