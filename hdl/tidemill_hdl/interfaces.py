"""Signatures and payloads that the units of the NPU share.

Every unit is a Moore machine at its boundary: each output is a function of registers alone, never of an input in
the same cycle. So no combinational path crosses more than one unit (`docs/architecture.md`).
"""

from __future__ import annotations

from amaranth.hdl import signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from tidemill.config import Config
from tidemill.isa import INSTRUCTION_BITS

PC_BITS = 24
"""Bits of an instruction's index in the program."""
LOCAL_BITS = 16
"""Bits of a local address: bit 15 the space, bits 14:0 the row."""

EngineInstruction = data.StructLayout({"word": unsigned(INSTRUCTION_BITS), "pc": unsigned(PC_BITS)})
"""An instruction on its way to an engine: legal, registers already added to its addresses."""


def spad_row(config: Config) -> data.ArrayLayout:
    """A scratchpad row: `rows` int8 lanes, lane 0 in the lowest byte."""
    return data.ArrayLayout(signed(8), config.rows)


def acc_row(config: Config) -> data.ArrayLayout:
    """An accumulator row: `cols` int32 lanes, lane 0 in the lowest word."""
    return data.ArrayLayout(signed(32), config.cols)


class Done(wiring.Signature):
    """One instruction of an engine is complete.

    Members
    -------
    valid : Out(1): a pulse; no backpressure.
    signal : Out(16): semaphores to increment; meaningful while `valid`.
    """

    def __init__(self) -> None:
        super().__init__({"valid": Out(1), "signal": Out(16)})


class Fault(wiring.Signature):
    """An engine met an error.

    Members
    -------
    valid : Out(1): stays high from the error until reset; the engine starts nothing new.
    cause : Out(4): a `tidemill.csr.Cause`; holds while `valid`, like the rest.
    pc : Out(24): index of the offending instruction.
    info : Out(32): the offending value.
    """

    def __init__(self) -> None:
        super().__init__({"valid": Out(1), "cause": Out(4), "pc": Out(PC_BITS), "info": Out(32)})


class ReadPort(wiring.Signature):
    """A requester's read port on a banked memory of `depth` rows.

    Members
    -------
    req : Out(stream of row index): a request is taken when valid and ready.
    rsp_valid : In(1): one pulse per request taken, in order, at least 3 cycles later; no backpressure.
    rsp_data : In(row): meaningful while `rsp_valid`.
    stall : In(1): a request lost its bank to another port in the cycle before (for counting).
    """

    def __init__(self, row: data.Layout, depth: int) -> None:
        self.row = row
        self.depth = depth
        super().__init__(
            {
                "req": Out(stream.Signature(unsigned((depth - 1).bit_length()))),
                "rsp_valid": In(1),
                "rsp_data": In(row),
                "stall": In(1),
            }
        )


class WritePort(wiring.Signature):
    """A requester's write port on a banked memory of `depth` rows.

    Members
    -------
    req : Out(stream of {addr, data}): a write is taken when valid and ready.
    idle : In(1): every write taken two or more cycles ago is in the memory; false while any waits.
        After its last transfer a requester waits two cycles and then for `idle` before it reports completion.
    stall : In(1): a write lost its bank to another port in the cycle before (for counting).
    """

    def __init__(self, row: data.Layout, depth: int) -> None:
        self.row = row
        self.depth = depth
        payload = data.StructLayout({"addr": unsigned((depth - 1).bit_length()), "data": row})
        super().__init__({"req": Out(stream.Signature(payload)), "idle": In(1), "stall": In(1)})


class AccumulatePort(wiring.Signature):
    """The array's port on the accumulators; always served, one row a cycle.

    Members
    -------
    valid : Out(1)
    addr : Out(row index)
    data : Out(cols lanes of `psum_bits` signed)
    accumulate : Out(1): add to the row; otherwise overwrite it.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(
            {
                "valid": Out(1),
                "addr": Out((config.acc_rows - 1).bit_length()),
                "data": Out(data.ArrayLayout(signed(config.psum_bits), config.cols)),
                "accumulate": Out(1),
            }
        )


def spad_read_port(config: Config) -> ReadPort:
    """Signature of a scratchpad read port, seen by the requester."""
    return ReadPort(spad_row(config), config.spad_rows)


def acc_read_port(config: Config) -> ReadPort:
    """Signature of an accumulator read port, seen by the requester."""
    return ReadPort(acc_row(config), config.acc_rows)


def spad_write_port(config: Config) -> WritePort:
    """Signature of a scratchpad write port, seen by the requester."""
    return WritePort(spad_row(config), config.spad_rows)


def acc_write_port(config: Config) -> WritePort:
    """Signature of an accumulator write port, seen by the requester."""
    return WritePort(acc_row(config), config.acc_rows)


Burst = data.StructLayout({"addr": unsigned(32), "beats": unsigned(8)})
"""A burst of `beats` + 1 full-width beats from `addr`, a multiple of the bus width; never crosses 4 KiB."""


class BurstRead(wiring.Signature):
    """A client's read side of the AXI gateway.

    Members
    -------
    cmd : Out(stream of Burst)
    beat : In(stream of {data, resp}): the beats of the bursts, in order of their commands.
        `resp` is the AXI response of the beat.
    """

    def __init__(self, config: Config) -> None:
        beat = data.StructLayout({"data": unsigned(config.axi_data_width), "resp": unsigned(2)})
        super().__init__({"cmd": Out(stream.Signature(Burst)), "beat": In(stream.Signature(beat))})


class BurstWrite(wiring.Signature):
    """A client's write side of the AXI gateway.

    Members
    -------
    cmd : Out(stream of Burst)
    beat : Out(stream of data): the beats of the bursts in order of their commands; never before their command
        has been taken.
    resp : In(stream of 2 bits): one AXI response per burst, in order.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(
            {
                "cmd": Out(stream.Signature(Burst)),
                "beat": Out(stream.Signature(unsigned(config.axi_data_width))),
                "resp": In(stream.Signature(unsigned(2))),
            }
        )


class Window(wiring.Signature):
    """Addresses a DMA may touch: `base` to `limit`, both included; constant while a program runs."""

    def __init__(self) -> None:
        super().__init__({"base": Out(32), "limit": Out(32)})


class Axi4Master(wiring.Signature):
    """An AXI4 master (AMBA IHI 0022). Incrementing bursts of full-width beats only."""

    def __init__(self, config: Config, id_width: int = 1) -> None:
        width = config.axi_data_width
        address = {
            "id": Out(id_width), "addr": Out(config.axi_addr_width), "len": Out(8), "size": Out(3), "burst": Out(2),
            "lock": Out(1), "cache": Out(4), "prot": Out(3), "qos": Out(4), "valid": Out(1), "ready": In(1),
        }  # fmt: skip
        members = {f"aw{name}": member for name, member in address.items()}
        members |= {"wdata": Out(width), "wstrb": Out(width // 8), "wlast": Out(1), "wvalid": Out(1), "wready": In(1)}
        members |= {"bid": In(id_width), "bresp": In(2), "bvalid": In(1), "bready": Out(1)}
        members |= {f"ar{name}": member for name, member in address.items()}
        members |= {"rid": In(id_width), "rdata": In(width), "rresp": In(2), "rlast": In(1)}
        members |= {"rvalid": In(1), "rready": Out(1)}
        super().__init__(members)


class Axi4LiteSlave(wiring.Signature):
    """An AXI4-Lite slave with 32-bit data and 12-bit addresses."""

    ADDR_BITS = 12

    def __init__(self) -> None:
        super().__init__(
            {
                "awaddr": In(self.ADDR_BITS),
                "awprot": In(3),
                "awvalid": In(1),
                "awready": Out(1),
                "wdata": In(32),
                "wstrb": In(4),
                "wvalid": In(1),
                "wready": Out(1),
                "bresp": Out(2),
                "bvalid": Out(1),
                "bready": In(1),
                "araddr": In(self.ADDR_BITS),
                "arprot": In(3),
                "arvalid": In(1),
                "arready": Out(1),
                "rdata": Out(32),
                "rresp": Out(2),
                "rvalid": Out(1),
                "rready": In(1),
            }
        )
