"""Where a sample stands in the job, carried by its index; and seeds made from that."""

from __future__ import annotations

from typing import Any

_MASK = (1 << 64) - 1


class PositionedIndex(int):
    """A data set index that knows its pass over the data and its position in it.

    It is an ``int``, so that every data set takes it, and it survives the
    trip to a data worker. The position counts samples of the whole job, all
    ranks included, so that it does not depend on the number of ranks.

    Args:
        index (int): Index into the data set.
        epoch (int): Completed passes over the data, 0 in the first.
        position (int): Samples of this pass that come before this one.

    Example:
        >>> index = PositionedIndex(7, epoch=2, position=31)
        >>> index + 0, index.epoch, index.position
        (7, 2, 31)
    """

    epoch: int
    position: int

    def __new__(cls, index: int, epoch: int, position: int) -> PositionedIndex:
        self = super().__new__(cls, index)
        self.epoch, self.position = epoch, position
        return self

    def __reduce__(self) -> Any:
        return type(self), (int(self), self.epoch, self.position)


def mix(*numbers: int) -> int:
    """Mix numbers into 64 well-spread bits, the same on every machine.

    Neighbouring inputs give unrelated outputs, so seeds of neighbouring
    samples, epochs and runs do not overlap.

    Args:
        *numbers (int): For instance seed, epoch and position.

    Returns:
        int: 0 to 2**64 - 1.

    Example:
        >>> mix(0, 0, 1) == mix(0, 0, 1), mix(0, 0, 1) == mix(0, 1, 0)
        (True, False)

    Source:
        The finaliser of SplitMix64: Steele, Lea and Flood, "Fast splittable
        pseudorandom number generators", OOPSLA 2014.
    """
    state = 0
    for number in numbers:
        state = (state + number + 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state
