"""Window: a stretch of a file as memory. What is put there survives the process, and took no system call.

Always true: the disk behind a window is allocated before it is made, so that touching it cannot fail; nothing is
touched before or after it. The standard library's `mmap` is not used, because it holds a descriptor of its own: to
close that would give up the process's record lock on the file.
"""

from __future__ import annotations

import ctypes
import mmap
import os

# Bytes of a segment's window: a system call or two each few hundred frames, and little disk allocated for nothing.
BYTES = 256 << 10
_GRAIN = mmap.ALLOCATIONGRANULARITY
_FAILED = ctypes.c_void_p(-1).value

# Offsets are passed as 64 bits, which the plain symbol takes only where pointers have as many.
AVAILABLE = hasattr(os, "posix_fallocate") and ctypes.sizeof(ctypes.c_void_p) == 8

if AVAILABLE:
    _libc = ctypes.CDLL(None, use_errno=True)
    _libc.mmap.restype = ctypes.c_void_p
    _libc.mmap.argtypes = [
        ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64
    ]  # fmt: skip
    _libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]


class Window:
    """The bytes of a file from `start` up to `end`: its `view`, until it is closed. One thread uses each at a time."""

    __slots__ = ("_address", "_size", "end", "start", "view")

    def __init__(self, descriptor: int, offset: int, size: int = BYTES) -> None:
        """A window in which `offset` lies. Raises OSError, also where the disk has no room for it."""
        self.start = offset - offset % _GRAIN
        self.end = self.start + size
        self._size = size
        os.posix_fallocate(descriptor, self.start, size)
        protection = mmap.PROT_READ | mmap.PROT_WRITE
        self._address = _libc.mmap(None, size, protection, mmap.MAP_SHARED, descriptor, self.start)
        if self._address == _FAILED:
            raise OSError(ctypes.get_errno(), "the file cannot be mapped")
        self.view = memoryview((ctypes.c_ubyte * size).from_address(self._address)).cast("B")

    def close(self) -> None:
        """Give the memory back. A view that is released refuses to be used, so that nothing is touched behind it."""
        address, self._address = self._address, None
        if address is not None:
            self.view.release()
            _libc.munmap(address, self._size)
