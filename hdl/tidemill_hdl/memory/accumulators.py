"""The accumulators: int32 rows that the array adds to."""

from __future__ import annotations

import enum

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, connect, flipped

from tidemill.config import Config
from tidemill_hdl.interfaces import AccumulatePort, acc_read_port, acc_row, acc_write_port

from .banked import BankedMemory


class AccRead(enum.IntEnum):
    """Index of each read port, in the order of priority; the array comes before them."""

    VECTOR_A = 0
    VECTOR_B = 1
    STORE = 2


class AccWrite(enum.IntEnum):
    """Index of each write port, in the order of priority; the array comes before them."""

    VECTOR = 0
    LOAD = 1


class Accumulators(wiring.Component):
    """`acc_rows` rows of `cols` int32 lanes in `acc_banks` banks, with an adder per lane for the array.

    Members
    -------
    array : In(AccumulatePort): always served, one row a cycle; takes the read port (with `accumulate`) and later the
        write port of its bank before anyone else. Partial sums are sign-extended, sums wrap modulo 2^32.
        An accumulate may follow an access to the same row by `hazard_distance` cycles at the earliest.
    r : In(ReadPort).array: indexed by `AccRead`.
    w : In(WritePort).array: indexed by `AccWrite`.

    Timing of `r` and `w`: `BankedMemory`. Reset forgets what is under way and keeps the memory.
    """

    ADD_LATENCY = 1

    def __init__(self, config: Config) -> None:
        self.config = config
        super().__init__(
            {
                "array": In(AccumulatePort(config)),
                "r": In(acc_read_port(config)).array(len(AccRead)),
                "w": In(acc_write_port(config)).array(len(AccWrite)),
            }
        )

    latency = BankedMemory.latency
    """Cycles from a read taken on `r` to its response without conflicts."""
    hazard_distance = BankedMemory.pinned_latency + ADD_LATENCY + 1
    """Minimum cycles from an access through `array` to an accumulate of the same row: the sum of the first is written
    `pinned_latency + ADD_LATENCY + 3` edges after it came, the block RAM reads the second 3 edges after it came."""
    commit_latency = BankedMemory.pinned_latency + ADD_LATENCY + 1
    """Cycles from `array.valid` until any request taken on `r` or `w` comes after it: both reach the block RAM after
    the same number of edges."""

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        m.submodules.banks = banks = BankedMemory(
            acc_row(config), config.acc_rows, config.acc_banks, len(AccRead), len(AccWrite), pinned=True
        )
        for index in AccRead:
            connect(m, flipped(self.r[index]), banks.r[index])
        for index in AccWrite:
            connect(m, flipped(self.w[index]), banks.w[index])

        low = banks.pinned_r.addr.shape().width

        def wanted(valid: Value, addr: Value) -> Value:
            """The bank of a row, one bit each."""
            return Cat(valid & (addr[low:] == bank) for bank in range(config.acc_banks))

        # The bank is decoded a cycle before its use: everyone else's grants wait for it.
        read_bank = Signal(config.acc_banks)
        m.d.sync += read_bank.eq(wanted(self.array.valid & self.array.accumulate, self.array.addr))
        valid, addr, row, accumulate = self.array.valid, self.array.addr, self.array.data, self.array.accumulate
        for stage in range(1 + BankedMemory.pinned_latency):
            next_valid = Signal(name=f"valid{stage}")
            next_addr = Signal.like(addr, name=f"addr{stage}", reset_less=True)
            next_row = Signal(row.shape(), name=f"row{stage}", reset_less=True)
            next_accumulate = Signal(name=f"accumulate{stage}", reset_less=True)
            m.d.sync += [
                next_valid.eq(valid),
                next_addr.eq(addr),
                next_row.eq(row),
                next_accumulate.eq(accumulate),
            ]
            valid, addr, row, accumulate = next_valid, next_addr, next_row, next_accumulate
            if not stage:
                m.d.comb += [banks.pinned_r.bank.eq(read_bank), banks.pinned_r.addr.eq(addr[:low])]

        sum_bank = Signal(config.acc_banks)
        sum_addr = Signal(low, reset_less=True)
        sum_row = Signal(acc_row(config), reset_less=True)
        m.d.sync += [sum_bank.eq(wanted(valid, addr)), sum_addr.eq(addr[:low])]
        for c in range(config.cols):
            m.d.sync += sum_row[c].eq(Mux(accumulate, banks.pinned_r.data[c], 0) + row[c])
        m.d.comb += [
            banks.pinned_w.bank.eq(sum_bank),
            banks.pinned_w.addr.eq(sum_addr),
            banks.pinned_w.data.eq(sum_row),
        ]
        return m
