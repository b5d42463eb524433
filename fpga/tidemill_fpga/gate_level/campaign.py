"""A netlist against the simulator: the digits network, random programs, and wrong cells that must be caught."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tidemill.config import Config
from tidemill.demo.digits.network import load_network, load_split, quantize_images
from tidemill.driver.errors import DeviceError
from tidemill.driver.npu import Npu, open_npu
from tidemill_fpga.gate_level.digits import logits
from tidemill_fpga.gate_level.programs import Comparison, memory_size
from tidemill_fpga.gate_level.wrong import SELECTOR, WrongCell
from tidemill_verif.rtl_device.model import RtlDevice


@dataclass(frozen=True)
class Part:
    """One thing that was run: `failure` says what differed, empty where nothing did; `cycles` on the netlist."""

    name: str
    failure: str
    cycles: int


def digits(gates: RtlDevice, count: int) -> Part:
    """The digits network on `count` held-out images: netlist, simulator and numpy agree on every byte."""
    network = load_network()
    images = quantize_images(load_split().test_images[:count])
    before = gates.cycle
    ours = logits(Npu(gates), network, images)
    with open_npu("iss", config=gates.config) as simulator:
        theirs = logits(simulator, network, images)
    failure = ""
    for name, other in (("iss", theirs), ("numpy", network.forward(images))):
        if not np.array_equal(ours, other):
            failure = f"{int((ours != other).sum())} of {ours.size} bytes differ from {name}"
            break
    return Part(f"digits network, {count} images", failure, gates.cycle - before)


def programs(comparison: Comparison, count: int, seed: int) -> Iterator[Part]:
    """`count` random programs from `seed` on; ends after the first that fails. Raises `DeviceError`."""
    for number in range(seed, seed + count):
        found, cycles = comparison.compare(number)
        yield Part(f"random program {number}", "" if found is None else str(found), cycles)
        if found is not None:
            return


def caught(gates: RtlDevice, cell: WrongCell, count: int, seed: int) -> str:
    """What first shows that `cell` is wrong, among `count` random programs from `seed` on; empty where nothing does.

    `gates` is a netlist of `wrong.spoil`, just opened.
    """
    comparison = Comparison(gates)
    gates.ports[SELECTOR] = cell.number
    try:
        gates.reset()
        for part in programs(comparison, count, seed):
            if part.failure:
                return f"{part.name}: {part.failure}"
    except DeviceError as error:
        return str(error)
    finally:
        comparison.close()
    return ""


def needed_memory(config: Config) -> int:
    """Bytes of DRAM that all of this needs."""
    return max(1 << 20, memory_size(config))
