"""Samples the points of `plan/sync.py`."""

from __future__ import annotations

import itertools
from collections import deque
from typing import Any

from tidemill.isa import SIGNAL, WAIT
from tidemill_verif.coverage.collect import hit
from tidemill_verif.coverage.isa_bins import corner
from tidemill_verif.coverage.plan.sync import DONES, ENGINE_NAMES, SEMAPHORES
from tidemill_verif.coverage.point import join
from tidemill_verif.coverage.sampling.wires import Streams, Wires, every_cycle


def bits(mask: int) -> list[int]:
    """The semaphores of a mask."""
    return [number for number in SEMAPHORES if mask >> number & 1]


def watch(dut: Any) -> None:
    """Sample the queues and semaphores in every cycle of this test."""
    wires = Wires(dut)
    streams = Streams(
        wires,
        "sync",
        {f"{side} {name}": f"{side}_instr__{i}" for side in "io" for i, name in enumerate(ENGINE_NAMES)},
    )
    waiting = [False] * len(ENGINE_NAMES)
    was_idle: int | None = None

    def sample_engines() -> None:
        nonlocal was_idle
        sem_wait, busy, idle = wires["sem_wait"], wires["busy"], wires["idle"]
        for i, name in enumerate(ENGINE_NAMES):
            if wires[f"o_instr__{i}__valid"]:
                mask = wires[f"o_instr__{i}__payload"] >> WAIT.lo & 0xFFFF
                hit("sync.wait_mask", join(name, corner(WAIT, mask)))
                if waiting[i]:
                    hit("sync.waited", *(join(name, number) for number in bits(mask)))
            waiting[i] = bool(sem_wait >> i & 1)
            if busy >> i & 1:
                hit("sync.busy", join(name, "busy"))
            if waiting[i]:
                hit("sync.busy", join(name, "waits"))
            if was_idle is not None and (idle ^ was_idle) >> i & 1:
                hit("sync.idle", join(name, "rises" if idle >> i & 1 else "falls"))
        was_idle = idle
        if wires["blocked"]:
            lowest = (sem_wait & -sem_wait).bit_length() - 1
            if lowest >= 0:
                hit("sync.blocked", ENGINE_NAMES[lowest])
        if wires["fault__valid"]:
            hit("sync.overflow", *bits(wires["fault__info"]))

    def sample_dones() -> None:
        signals = []
        for i, name in enumerate(DONES):
            if wires[f"done__{i}__valid"]:
                mask = wires[f"done__{i}__signal"]
                signals.append(mask)
                hit("sync.signalled", *(join(name, number) for number in bits(mask)))
                hit("sync.signal_mask", join(name, corner(SIGNAL, mask)))
        if signals:
            hit("sync.together", len(signals))
            for count in {sum(mask >> number & 1 for mask in signals) for number in SEMAPHORES} - {0}:
                hit("sync.same_semaphore", count)

    queued: list[deque[int]] = [deque() for _ in ENGINE_NAMES]

    def sample_heads() -> None:
        masks = []
        for i, queue in enumerate(queued):
            masks.append(queue[0] if queue and waiting[i] else 0)
            if wires.transfer(f"o_instr__{i}"):
                queue.popleft()
            if wires.transfer(f"i_instr__{i}"):
                queue.append(wires[f"i_instr__{i}__payload"] >> WAIT.lo & 0xFFFF)
        for (a, first), (b, second) in itertools.combinations(enumerate(masks), 2):
            if first & second:
                hit("sync.clash", join(ENGINE_NAMES[a], ENGINE_NAMES[b]))

    every_cycle(dut, streams, sample_engines, sample_dones, sample_heads)
