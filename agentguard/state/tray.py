"""
What calls count in, without a lock and without waiting for anyone.

A call appends to a list: the one addition that loses nothing on any interpreter, with
many threads too, and the cheapest there is. Whoever shares or reads the sums takes what
lies there, under the lock of the tally. A tray belongs to one slice of time; the first
call of another slice, or of a forked process, turns it to that.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from agentguard.forks import process_mark
from agentguard.state.tally import Tally
from agentguard.values import Clock

SLICE_S = 5
"""So many seconds are one slice. Whole slices make a day."""
SLICE_NS = SLICE_S * 1_000_000_000


class Tray(ABC):
    """One slice of time, and what was counted in it that is not yet taken."""

    __slots__ = ("_clock", "_epoch", "_from_ns", "_is_resting", "_tally", "_until_ns", "mark", "number")

    def __init__(self, tally: Tally, clock: Clock) -> None:
        """
        Begin with no slice: the first call finds one.

        Args:
            tally:
                Gets what is taken.
            clock:
                Tells which slice it is.
        """
        self._tally = tally
        self._clock = clock
        self.mark = process_mark()
        """Its item 0 is 0 in a process that was forked since the tray was last healed."""
        self._epoch = tally.epoch
        self.number = 0
        """Of the slice, since the epoch of Unix."""
        self._from_ns = self._until_ns = 0
        self._is_resting = True

    def turn(self, now_unix_ns: int) -> None:
        """
        Turn to the slice of a call; the tally's lock is held.

        Nothing is done where that is not the present one: a call may say a little later that it ended just
        before. And nothing is counted: the first call of a slice counts in the tally, which then knows the key,
        and has something to merge.
        """
        self.heal()
        number = now_unix_ns // SLICE_NS
        if number == self._clock.unix_ns() // SLICE_NS:
            self.take()
            # Closed first: no call may take the beginning of one slice and the end of another for its own.
            self._until_ns = 0
            self.number = number
            self._from_ns = number * SLICE_NS
            self._is_resting = False
            self._until_ns = self._from_ns + SLICE_NS
            self._tally.trays[self] = None

    def rest(self) -> bool:
        """
        Let go of the slice; the tally's lock is held.

        Returns:
            False where a call was faster and has counted meanwhile. One that counts after this sees that
            the tray is resting, and says so: none is forgotten.
        """
        self._is_resting = True
        self._until_ns = 0
        return not self.take()

    def awake(self) -> None:
        """Hear that a call has counted while the tray went to rest."""
        tally = self._tally
        with tally.lock:
            tally.trays[self] = None
        tally.added()

    def heal(self) -> None:
        """Drop what the process has counted that this one was forked from; the tally's lock is held."""
        if not self.mark[0]:
            self.mark = process_mark()
            if self._epoch != self._tally.epoch:
                self._epoch = self._tally.epoch
                self._is_resting, self._until_ns = True, 0
                self._clear()

    @abstractmethod
    def take(self) -> bool:
        """
        Put what was counted into the tally, whose lock is held; False where there was nothing.

        Into the tally first, then out of the tray: an interrupt in between counts twice, and not never.
        """

    @abstractmethod
    def _clear(self) -> None:
        """Drop what was counted."""
