"""A place that holds one value, the newest: who is slow misses some, and nobody lags."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Generic, TypeVar

__all__ = ["Newest"]

_T = TypeVar("_T")


class Newest(Generic[_T]):
    """Hands values from one thread to any number of others. Thread-safe."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._count = 0
        self._value: _T | None = None
        self._closed = False

    def put(self, value: _T) -> None:
        """Replace the value."""
        with self._changed:
            self._value = value
            self._count += 1
            self._changed.notify_all()

    def close(self) -> None:
        """End every iteration."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def __iter__(self) -> Iterator[_T]:
        """Yield the newest value, then each time the one that is newest by then, until closed."""
        seen = 0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._count > seen)  # noqa: B023 (called at once)
                if self._closed:
                    return
                seen, value = self._count, self._value
            assert value is not None
            yield value
