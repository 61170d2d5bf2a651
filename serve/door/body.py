"""A request's body, and the memory that it takes until it is answered."""

from collections import deque

COPIES = 2  # as it came or as it was read, and once more: while it is read, and for the linker


class Body:
    """The pieces of a body of `size` bytes, each given out once."""

    def __init__(self) -> None:
        self._pieces, self.size = deque[bytes](), 0

    def add(self, piece: bytes) -> None:
        """Take one more piece."""
        self._pieces.append(piece)
        self.size += len(piece)

    @property
    def memory(self) -> int:
        """Bytes of it and of what is made of it, from its arrival to the answer."""
        return COPIES * self.size

    def take(self) -> tuple[bytes, bool]:
        """Return the next piece, which is not kept here, and whether there are more."""
        piece = self._pieces.popleft() if self._pieces else b""
        return piece, bool(self._pieces)

    def clear(self) -> None:
        """Forget it."""
        self._pieces.clear()
        self.size = 0
