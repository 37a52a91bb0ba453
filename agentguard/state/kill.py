"""
The kill switch: orders that stop calls at once, in every process of the machine.

The orders are one sealed document, which exists from the start: where it is
missing or older than the control page says, nothing runs.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from agentguard.errors import StoreError
from agentguard.state.cells import Cells, Document
from agentguard.state.page import KILL, NUMBER_BYTES, Page
from agentguard.values import Clock

ALL = "all"
ORDERS_MAX = 256
STALE_NS_MAX = 1_000_000_000
_SCOPE = re.compile(r"all\Z|(agent|tool|model):.{1,256}\Z", re.DOTALL)
_KIND, _KEY = "kill", "orders"


class KillOrder(NamedTuple):
    """One order: what is stopped, why, by whom, since when."""

    scope: str
    """`all`, `agent:NAME`, `tool:NAME` or `model:NAME`."""
    reason: str
    by: str
    since_unix_s: int


class Kill:
    """Sets, clears and asks for orders."""

    PAGED: Final = KILL // NUMBER_BYTES
    """Place of the generation of the orders in `numbers`."""

    def __init__(self, cells: Cells, page: Page, clock: Clock) -> None:
        self._cells = cells
        self._page = page
        self._clock = clock
        self._lock = threading.Lock()
        self._orders: Mapping[str, KillOrder] = {}
        self.numbers = page.numbers
        """Of the control page; that at `PAGED` changes with the orders."""
        self._generation = -1
        self.calm = -1
        """What the page says while nothing is stopped; another number where something is, or may be. With
        `due_ns` it is all that has to be looked at at a call: where both hold, `in_force_at` gives no order."""
        self.due_ns = 0
        """When to read the orders again even though the page says nothing: its writer may have died."""

    def begin(self) -> None:
        """Make the document of a store that never had one; call once, where the state is made."""
        with self._cells.transaction():
            if self._cells.get(_KIND, _KEY) is None:
                if self._page.read(KILL):
                    raise StoreError("kill switch: its orders were removed")
                self._cells.put(_KIND, _KEY, {"generation": 1, "orders": {}})
        if not self._page.read(KILL):
            self._page.write(KILL, 1)

    def find(self, *scopes: str) -> KillOrder | None:
        """
        Find an order that stops a call.

        Args:
            scopes:
                What the call is: `agent:NAME`, `tool:NAME`, `model:NAME`. An order for all counts too.

        Returns:
            The order, or None where the call may go on.

        Raises:
            StoreError: The orders are missing, were set back, or cannot be read: nothing may run.
        """
        orders = self.in_force()
        for scope in (ALL, *scopes):
            if order := orders.get(scope):
                return order
        return None

    def is_set(self, *scopes: str) -> bool:
        """
        Whether an order stops a call; as `find`.

        Args:
            scopes:
                What the call is.

        Returns:
            True where it must not run.

        Raises:
            StoreError: The orders are missing, were set back, or cannot be read: nothing may run.
        """
        return self.find(*scopes) is not None

    def in_force(self) -> Mapping[str, KillOrder]:
        """
        Give all orders by scope, as they are at this moment; mostly none.

        Raises:
            StoreError: The orders are missing, were set back, or cannot be read: nothing may run.
        """
        return self.in_force_at(self._clock.monotonic_ns())

    def in_force_at(self, now_monotonic_ns: int) -> Mapping[str, KillOrder]:
        """
        Give all orders by scope; as `in_force`, for who has just read the state's clock.

        Args:
            now_monotonic_ns:
                What its monotonic hand says.

        Raises:
            StoreError: The orders are missing, were set back, or cannot be read: nothing may run.
        """
        if self.numbers[self.PAGED] != self._generation or now_monotonic_ns > self.due_ns:
            self.refresh()
        return self._orders

    def orders(self) -> tuple[KillOrder, ...]:
        """
        List all orders, by scope.

        Raises:
            StoreError: The orders are missing, were set back, or cannot be read.
        """
        self.refresh()
        orders = self._orders
        return tuple(orders[scope] for scope in sorted(orders))

    def set(self, scope: str, *, reason: str, by: str) -> KillOrder:
        """
        Stop what a scope names, on the whole machine, from the next call on.

        Args:
            scope:
                `all`, `agent:NAME`, `tool:NAME` or `model:NAME`.
            reason:
                For people.
            by:
                Who orders it.

        Returns:
            The order.

        Raises:
            StoreError: The scope is none, there are too many orders, or it cannot be written.
        """
        if not _SCOPE.match(scope):
            raise StoreError(f"kill: scope `{scope}`, expected all, agent:NAME, tool:NAME or model:NAME")
        order = KillOrder(scope, reason[:1000], by[:256], self._clock.unix_ns() // 1_000_000_000)
        self._change(lambda orders: orders.update({scope: order}))
        return order

    def clear(self, scope: str) -> bool:
        """
        Lift an order.

        Args:
            scope:
                The scope that it was set with.

        Returns:
            False where there was none.

        Raises:
            StoreError: It cannot be written.
        """
        found = []
        self._change(lambda orders: found.append(orders.pop(scope, None)))
        return found != [None]

    def refresh(self) -> None:
        """Read the orders again."""
        with self._lock:
            due_ns = self._clock.monotonic_ns() + STALE_NS_MAX
            # The page first: what it says by now is in the document, which is written before it.
            paged = self._page.read(KILL)
            generation, orders = _decode(self._cells.get(_KIND, _KEY))
            if generation < paged:
                raise StoreError("kill switch: its orders were set back").hint(
                    "the state file is older than the control page; `agentguard kill set all` writes new orders"
                )
            if generation > paged:
                # Whoever changed the orders has not yet said so, or died before.
                self._page.write(KILL, generation)
            # The orders first: another thread takes them for what the generation says.
            self.calm = -1
            self._orders, self.due_ns = orders, due_ns
            self._generation = generation
            self.calm = -1 if orders else generation

    def after_fork(self) -> None:
        """Begin with a lock of our own."""
        self._lock = threading.Lock()

    def _change(self, change: Callable[[dict[str, KillOrder]], object]) -> None:
        with self._cells.transaction():
            generation, orders = _decode(self._cells.get(_KIND, _KEY), is_missing_ok=True)
            changed = dict(orders)
            change(changed)
            if len(changed) > ORDERS_MAX:
                raise StoreError(f"kill: {len(changed)} orders, expected at most {ORDERS_MAX}")
            generation = max(generation, self._page.read(KILL)) + 1
            self._cells.put(
                _KIND,
                _KEY,
                {
                    "generation": generation,
                    "orders": {scope: list(order) for scope, order in changed.items()},
                },
            )
        self._page.write(KILL, max(generation, self._page.read(KILL)))
        self.refresh()


def _decode(document: Document | None, *, is_missing_ok: bool = False) -> tuple[int, Mapping[str, KillOrder]]:
    if document is None:
        if is_missing_ok:
            return 0, {}
        raise StoreError("kill switch: its orders were removed").hint(
            "`agentguard kill set all` writes new ones; then look at who could write to the store"
        )
    generation, orders = document["generation"], document["orders"]
    if not isinstance(generation, int) or not isinstance(orders, dict):
        raise StoreError("kill switch: its orders do not decode")
    return generation, {scope: KillOrder(*fields) for scope, fields in orders.items()}
