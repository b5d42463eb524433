"""Counters turned into what a person asks: where did the cycles go?"""

from __future__ import annotations

from collections.abc import Mapping

STALLS: dict[str, str] = {
    "SEM_LOAD": "load waits for a semaphore",
    "SEM_STORE": "store waits for a semaphore",
    "SEM_MATRIX": "matrix waits for a semaphore",
    "SEM_VECTOR": "vector waits for a semaphore",
    "QUEUE_FULL": "frontend waits for queue room",
    "FETCH_WAIT": "frontend waits for instructions",
    "BUS_READ_WAIT": "load waits for read data",
    "BUS_WRITE_WAIT": "store waits for the bus",
    "CONFLICT_LOAD": "load lost its bank",
    "CONFLICT_STORE": "store lost its bank",
    "CONFLICT_MATRIX": "matrix lost its bank",
    "CONFLICT_VECTOR": "vector lost its bank",
}
"""Counters of lost cycles, with the words a report uses."""

BUSY: dict[str, str] = {
    "BUSY_LOAD": "load",
    "BUSY_STORE": "store",
    "BUSY_MATRIX": "matrix",
    "BUSY_VECTOR": "vector",
}
"""Counters of busy cycles by engine."""


def stalls(counters: Mapping[str, int]) -> dict[str, int]:
    """Cycles lost by cause: counter names in lower case."""
    return {name.lower(): counters[name] for name in STALLS}


def busy(counters: Mapping[str, int]) -> dict[str, int]:
    """Busy cycles by engine."""
    return {engine: counters[name] for name, engine in BUSY.items()}
