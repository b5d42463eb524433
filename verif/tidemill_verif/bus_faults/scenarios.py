"""What can go wrong on the bus: at random, at every cycle, at every beat."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from tidemill.csr import Cause
from tidemill.driver.device import ErrorRange
from tidemill.isa import INSTRUCTION_BYTES, encode
from tidemill_verif.bus_faults.machine import NEVER, Action, Machine, Scenario, Timing
from tidemill_verif.bus_faults.workloads import PROGRAM, WORKLOADS, Workload

CHANNELS = ("ar", "r", "aw", "w", "b")
RESPONSES = ("slverr", "decerr")
ILLEGAL = {
    Cause.ILLEGAL_OPCODE: 0xAB1F,
    Cause.RESERVED_BITS: encode("nop") | 1 << 100,
    Cause.ILLEGAL_OPERAND: encode("mx.act") & ~(0xFFF << 40),
}
"""Instructions that the frontend refuses."""
SHORT_WATCHDOG = 2000


def random_timing(rng: random.Random) -> Timing:
    """From an answer in the next cycle to several thousand cycles, with and without stalls."""
    return Timing(
        read_latency=_latency(rng),
        write_latency=_latency(rng),
        bandwidth=rng.choice((1.0, 1.0, 0.5, 0.13)),
        stall_probability=rng.choice((0.0, 0.0, 0.1, 0.4, 0.8)),
        seed=rng.getrandbits(32),
        interleave=rng.random() < 0.5,
        early_data=rng.random() < 0.5,
    )


def _latency(rng: random.Random) -> int:
    """1 to 4096, seldom long."""
    return rng.choice((1, 1, 2, 3, 20, 20, rng.randint(1, 60), int(2 ** rng.uniform(0, 12))))


def _moment(machine: Machine, workload: str, timing: Timing, rng: random.Random) -> int:
    """A cycle that probably lies within the run."""
    slow = 1 + timing.read_latency / 40 + timing.write_latency / 80
    share = timing.bandwidth * (1 - timing.stall_probability)
    return rng.randrange(int(1.2 * machine.cycles[workload] * slow / share) + 20)


def random_error(workload: Workload, rng: random.Random) -> ErrorRange:
    """From a byte to half of a transfer of the program answers with an error."""
    first, last, direction = rng.choice(workload.transfers)
    at = rng.randint(first, last)
    length = rng.choice((1, 1, 64, (last - first) // 2 + 1))
    return at, min(last, at + length - 1), rng.choice(RESPONSES), direction


def _random_illegal(workload: Workload, rng: random.Random) -> tuple[int, int]:
    return rng.randrange(len(workload.words)), rng.choice(list(ILLEGAL.values()))


def _slow(machine: Machine, rng: random.Random, base: Scenario) -> dict[str, object]:
    return {}


def _hold(machine: Machine, rng: random.Random, base: Scenario) -> dict[str, object]:
    holds = [
        Action(_moment(machine, base.workload, base.timing, rng), "hold", channel, int(2 ** rng.uniform(3, 13)))
        for channel in rng.sample(CHANNELS, rng.randint(1, 3))
    ]
    return {"actions": _in_time(holds)}


def _error(machine: Machine, rng: random.Random, base: Scenario) -> dict[str, object]:
    workload = machine.workloads[base.workload]
    changes: dict[str, object] = _hold(machine, rng, base) if rng.random() < 0.3 else {}
    return changes | {"errors": tuple(random_error(workload, rng) for _ in range(rng.choice((1, 1, 2, 3))))}


def _illegal(machine: Machine, rng: random.Random, base: Scenario) -> dict[str, object]:
    workload = machine.workloads[base.workload]
    return {"errors": (random_error(workload, rng),), "illegal": _random_illegal(workload, rng)}


def _reset(machine: Machine, rng: random.Random, base: Scenario) -> dict[str, object]:
    """Soft resets, starts and stuck channels; often on top of an error."""
    workload = machine.workloads[base.workload]
    at = _moment(machine, base.workload, base.timing, rng)
    actions = [Action(at, "soft_reset")]
    for _ in range(rng.randint(0, 3)):
        later = max(0, at + rng.choice((-1, 1, 1)) * rng.randint(0, 60))
        actions.append(Action(later, rng.choice(("soft_reset", "start", "start"))))
    if rng.random() < 0.3:
        actions.append(Action(max(0, at - rng.randint(0, 40)), "hold", rng.choice(CHANNELS), rng.randint(1, 3000)))
    errors = (random_error(workload, rng),) if rng.random() < 0.3 else ()
    return {"actions": _in_time(actions), "errors": errors}


def _hard_reset(machine: Machine, rng: random.Random, base: Scenario) -> dict[str, object]:
    at = _moment(machine, base.workload, base.timing, rng)
    actions = [Action(at, "hard_reset", cycles=rng.randint(2, 6))]
    if rng.random() < 0.5:
        actions.append(Action(max(0, at - rng.randint(0, 60)), "soft_reset"))
    return {"actions": _in_time(actions)}


def _watchdog(machine: Machine, rng: random.Random, base: Scenario) -> dict[str, object]:
    """A channel stands still for longer than the watchdog waits, and then moves on."""
    at, cycles = rng.randrange(machine.cycles[base.workload]), rng.randint(SHORT_WATCHDOG + 1, 4 * SHORT_WATCHDOG)
    early = rng.random() < 0.5
    timing = Timing(rng.randint(1, 200), rng.randint(1, 200), 1.0, 0.1, rng.getrandbits(32), early, early)
    hold = Action(at, "hold", rng.choice(CHANNELS), cycles)
    return {"timing": timing, "actions": (hold,), "watchdog": SHORT_WATCHDOG}


def _never(machine: Machine, rng: random.Random, base: Scenario) -> dict[str, object]:
    """A channel never moves again; perhaps a soft reset, perhaps a hard one."""
    at = rng.randrange(machine.cycles[base.workload])
    actions = [Action(at, "hold", rng.choice(CHANNELS), NEVER)]
    if kind := rng.choice(("", "soft_reset", "hard_reset")):
        actions.append(Action(at + rng.randint(0, 3 * SHORT_WATCHDOG), kind, cycles=4))
    return {"timing": Timing(early_data=rng.random() < 0.5), "actions": tuple(actions), "watchdog": SHORT_WATCHDOG}


def _in_time(actions: list[Action]) -> tuple[Action, ...]:
    return tuple(sorted(actions, key=lambda action: action.at))


KINDS: dict[str, tuple[int, Callable[[Machine, random.Random, Scenario], dict[str, object]]]] = {
    "slow": (2, _slow),
    "hold": (2, _hold),
    "error": (4, _error),
    "error and illegal": (2, _illegal),
    "soft reset": (5, _reset),
    "hard reset": (2, _hard_reset),
    "watchdog": (1, _watchdog),
    "never": (1, _never),
}
"""Kinds of random scenarios: how often, and what they are."""


def random_scenario(machine: Machine, seed: int, number: int, kind: str | None = None) -> Scenario:
    """Scenario `number` of a sweep, of a random kind where none is given; the same for the same arguments and
    hardware."""
    rng = random.Random(f"{seed}/{number}")
    kind = kind or rng.choices(list(KINDS), [weight for weight, _ in KINDS.values()])[0]
    base = Scenario(
        f"{kind} of run {number}",
        rng.choice(list(WORKLOADS)),
        random_timing(rng),
        recovery=rng.choice(("gemm", "gemm", *WORKLOADS)),
    )
    return _changed(base, KINDS[kind][1](machine, rng, base))


def _changed(base: Scenario, changes: dict[str, object]) -> Scenario:
    return Scenario(**{**vars(base), **changes})  # type: ignore[arg-type]


def offsets(machine: Machine, step: int = 1) -> Iterator[Scenario]:
    """A soft reset, a hard one or a start at every `step`th cycle of each program, the memory answering at once or
    late."""
    for workload, cycles in machine.cycles.items():
        for at in range(0, cycles + 60, step):
            timing = (Timing(), Timing(1, 1), Timing(40, 40, 1.0, 0.3, at, True, True))[at // step % 3]
            kind = ("soft_reset", "soft_reset", "soft_reset", "hard_reset", "start")[at // step % 5]
            yield Scenario(
                f"{kind} at {at}", workload, timing, actions=(Action(at, kind, cycles=4),), recovery=workload
            )


def beats(machine: Machine, step: int = 1) -> Iterator[Scenario]:
    """Every `step`th beat that each program moves answers with SLVERR or DECERR, alone; of the program, every
    instruction."""
    for workload in machine.workloads.values():
        for first, last, direction in workload.transfers:
            width = INSTRUCTION_BYTES if first == PROGRAM else machine.config.axi_bytes
            for number, at in enumerate(range(first, last + 1, step * width)):
                error = (at, at, RESPONSES[number // 3 % 2], direction)
                timing = (Timing(), Timing(1, 1), Timing(9, 30, 0.5, 0.3, at, True, True))[number % 3]
                yield Scenario(
                    f"{direction} of {at:#x}", workload.name, timing, errors=(error,), recovery=workload.name
                )
