"""A memory of several banks with several read and write ports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Shape, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from tidemill_hdl.interfaces import ReadPort, WritePort
from tidemill_hdl.prim.queue import SkidBuffer

from .bank import RowMemory


class PinnedRead(wiring.Signature):
    """Requester's side of a read port that wins every arbitration.

    Members
    -------
    bank : Out(banks): a set bit reads row `addr` of its bank now; at most one is set.
    addr : Out(row of the bank)
    data : In(row): the row, `BankedMemory.pinned_latency` cycles later.

    The bank is decoded by the requester, who has the address earlier: what everyone else waits for is a register.
    """

    def __init__(self, row: data.Layout, depth: int, banks: int) -> None:
        super().__init__({"bank": Out(banks), "addr": Out((depth // banks - 1).bit_length()), "data": In(row)})


class PinnedWrite(wiring.Signature):
    """Requester's side of a write port that wins every arbitration.

    Members
    -------
    bank : Out(banks): a set bit writes `data` to row `addr` of its bank; at most one is set.
    addr : Out(row of the bank)
    data : Out(row)
    """

    def __init__(self, row: data.Layout, depth: int, banks: int) -> None:
        super().__init__({"bank": Out(banks), "addr": Out((depth // banks - 1).bit_length()), "data": Out(row)})


@dataclass
class _Requester:
    """A request that waits for its bank, and the grant it gets. `wants`: by bank, at most one is set; `bank`: the same
    as a number; `addr`: the row of the bank."""

    name: str
    wants: list[Signal]
    bank: Value
    addr: Value
    data: Value | None
    grant: Signal


class BankedMemory(wiring.Component):
    """Row memory of `banks` banks; the bank is the row index's high bits.

    Each bank serves one read and one write a cycle; reads never conflict with writes. Requests for the same bank
    are served in the order of the port index; the losers wait in the two-entry buffer of their port. The first port is
    never refused (and has one register for a buffer) unless there are pinned ones.

    Parameters
    ----------
    row : Layout
        A row.
    depth : int
        Rows of all banks together, a power of two.
    banks : int
        Banks, a power of two, at least 2.
    readers, writers : int
        Ports.
    pinned : bool
        Adds the ports `pinned_r` and `pinned_w`, which come before all others and are never refused.

    Members
    -------
    r : In(ReadPort).array(readers): responses in the order of requests, `latency` cycles after a request was taken
        where it meets no conflict; one request a cycle.
    w : In(WritePort).array(writers): a write is visible to reads taken in the cycle after or later where it meets no
        conflict, and always once `idle` says so.
    pinned_r : In(PinnedRead), with `pinned` only.
    pinned_w : In(PinnedWrite), with `pinned` only.

    A row that is read by one port while another writes it has no defined value. Content survives reset; requests
    that wait at reset are forgotten, and so are responses.
    """

    latency = 5
    """Cycles from a read taken to its response: buffer, arbitration, block RAM, its output register, selection."""
    pinned_latency = 4
    """Cycles from `pinned_r.bank` to the data: the same without the buffer."""

    def __init__(
        self, row: data.Layout, depth: int, banks: int, readers: int, writers: int, *, pinned: bool = False
    ) -> None:
        if banks < 2 or banks & (banks - 1) or depth & (depth - 1) or depth < 2 * banks:
            raise ValueError(f"depth and banks must be powers of two with two rows a bank, not {depth!r} and {banks!r}")
        self.row = row
        self.depth = depth
        self.banks = banks
        self.readers = readers
        self.writers = writers
        self.pinned = pinned
        members = {
            "r": In(ReadPort(row, depth)).array(readers),
            "w": In(WritePort(row, depth)).array(writers),
        }
        if pinned:
            members["pinned_r"] = In(PinnedRead(row, depth, banks))
            members["pinned_w"] = In(PinnedWrite(row, depth, banks))
        super().__init__(members)

    def _pinned(self, name: str, port: Any, data: Value | None) -> _Requester:
        bits = range((self.banks - 1).bit_length())
        number = Cat(Cat(port.bank[b] for b in range(self.banks) if b >> bit & 1).any() for bit in bits)
        wants = [port.bank[b] for b in range(self.banks)]
        return _Requester(name, wants, number, port.addr, data, Signal(name=f"{name}_grant"))

    def _requester(
        self, m: Module, name: str, waits: Value, row: Value, data: Value | None, grant: Signal
    ) -> _Requester:
        low = self._local_bits
        wants = [Signal(name=f"{name}_want{bank}") for bank in range(self.banks)]
        m.d.comb += [want.eq(waits & (row[low:] == bank)) for bank, want in enumerate(wants)]
        return _Requester(name, wants, row[low:], row[:low], data, grant)

    @staticmethod
    def _arbitrate(requesters: list[_Requester], bank: int) -> list[Value]:
        """Grants of `bank`, at most one of them set: the first requester that wants it."""
        grants: list[Value] = []
        taken: Value = Const(0, 1)
        for requester in requesters:
            want = requester.wants[bank]
            grants.append(want & ~taken)
            taken = want | taken
        return grants

    @staticmethod
    def _first(requesters: list[_Requester], bank: int, values: list[Value]) -> Value:
        """The value of the first requester that wants `bank`; any if none does, so that nothing holds it back."""
        chosen = values[-1]
        for requester, value in zip(reversed(requesters[:-1]), reversed(values[:-1]), strict=True):
            chosen = Mux(requester.wants[bank], value, chosen)
        return chosen

    @property
    def _local_bits(self) -> int:
        return (self.depth // self.banks - 1).bit_length()

    def elaborate(self, platform: object) -> Module:
        m = Module()
        width = Shape.cast(self.row).width
        banks = []
        for b in range(self.banks):
            m.submodules[f"bank{b}"] = bank = RowMemory(width, self.depth // self.banks)
            banks.append(bank)
        self._elaborate_reads(m, banks)
        self._elaborate_writes(m, banks, width)
        return m

    def _head(self, m: Module, name: str, port: Any, grant: Value, *, first: bool) -> tuple[Value, Any]:
        """Whether a request of `port` waits for its grant, and its payload; drives `stall`. The `first` port never
        loses: what it asks is served in the next cycle, so it needs no buffer."""
        req = port.req
        stall = Signal(name=f"{name}_stall")
        m.d.comb += port.stall.eq(stall)
        if first:
            waits = Signal(name=f"{name}_waits")
            payload = Signal(req.payload.shape(), name=f"{name}_payload", reset_less=True)
            m.d.comb += req.ready.eq(1)
            m.d.sync += [waits.eq(req.valid), payload.eq(req.payload)]
            return waits, payload
        m.submodules[f"{name}_buffer"] = buffer = SkidBuffer(req.payload.shape())
        wiring.connect(m, wiring.flipped(req), buffer.i)
        m.d.comb += buffer.o.ready.eq(grant)
        m.d.sync += stall.eq(buffer.o.valid & ~grant)
        return buffer.o.valid, buffer.o.payload

    def _elaborate_reads(self, m: Module, banks: list[RowMemory]) -> None:
        low = self._local_bits
        requesters = []
        responses: list[tuple[Signal | None, Value]] = []
        if self.pinned:
            port = self.pinned_r
            requesters.append(self._pinned("pinned_r", port, None))
            responses.append((None, Value.cast(port.data)))
        for p, port in enumerate(self.r):
            grant = Signal(name=f"r{p}_grant")
            waits, row = self._head(m, f"r{p}", port, grant, first=not requesters)
            rsp_valid = Signal(name=f"r{p}_rsp_valid")
            m.d.comb += port.rsp_valid.eq(rsp_valid)
            requesters.append(self._requester(m, f"r{p}", waits, row, None, grant))
            responses.append((rsp_valid, Value.cast(port.rsp_data)))

        grants = []
        for b, bank in enumerate(banks):
            grants.append(self._arbitrate(requesters, b))
            enable = Signal(name=f"bank{b}_r_en")
            addr = Signal(low, name=f"bank{b}_r_addr", reset_less=True)
            m.d.sync += [
                enable.eq(Cat(requester.wants[b] for requester in requesters).any()),
                addr.eq(self._first(requesters, b, [requester.addr for requester in requesters])),
            ]
            m.d.comb += [bank.r_en.eq(enable), bank.r_addr.eq(addr)]

        for p, (requester, (rsp_valid, rsp_data)) in enumerate(zip(requesters, responses, strict=True)):
            m.d.comb += requester.grant.eq(Cat(chosen[p] for chosen in grants).any())
            valid: Value = requester.grant
            select: Value = requester.bank
            # The tag travels beside the bank: address register, block RAM, output register.
            for stage in range(1 + RowMemory.latency):
                next_valid = Signal(name=f"{requester.name}_tag_valid{stage}")
                next_select = Signal(len(select), name=f"{requester.name}_tag_bank{stage}", reset_less=True)
                m.d.sync += [next_valid.eq(valid), next_select.eq(select)]
                valid, select = next_valid, next_select
            row = Signal(len(rsp_data), name=f"{requester.name}_rsp_data", reset_less=True)
            with m.Switch(select):
                for b, bank in enumerate(banks):
                    with m.Case(b):
                        m.d.sync += row.eq(bank.r_data)
            m.d.comb += rsp_data.eq(row)
            if rsp_valid is not None:
                m.d.sync += rsp_valid.eq(valid)

    def _elaborate_writes(self, m: Module, banks: list[RowMemory], width: int) -> None:
        low = self._local_bits
        requesters = []
        if self.pinned:
            requesters.append(self._pinned("pinned_w", self.pinned_w, Value.cast(self.pinned_w.data)))
        for p, port in enumerate(self.w):
            grant = Signal(name=f"w{p}_grant")
            waits, payload = self._head(m, f"w{p}", port, grant, first=not requesters)
            idle = Signal(init=1, name=f"w{p}_idle")
            m.d.comb += port.idle.eq(idle)
            m.d.sync += idle.eq(~waits)
            requesters.append(self._requester(m, f"w{p}", waits, payload.addr, Value.cast(payload.data), grant))

        grants = []
        for b, bank in enumerate(banks):
            grants.append(self._arbitrate(requesters, b))
            enable = Signal(name=f"bank{b}_w_en")
            addr = Signal(low, name=f"bank{b}_w_addr", reset_less=True)
            row = Signal(width, name=f"bank{b}_w_data", reset_less=True)
            rows = [requester.data for requester in requesters if requester.data is not None]
            m.d.sync += [
                enable.eq(Cat(requester.wants[b] for requester in requesters).any()),
                row.eq(self._first(requesters, b, rows)),
                addr.eq(self._first(requesters, b, [requester.addr for requester in requesters])),
            ]
            m.d.comb += [bank.w_en.eq(enable), bank.w_addr.eq(addr), bank.w_data.eq(row)]
        for p, requester in enumerate(requesters):
            m.d.comb += requester.grant.eq(Cat(chosen[p] for chosen in grants).any())
