"""The banked memory `memory/banked.py`: arbiters, reads and writes."""

from __future__ import annotations

from functools import partial

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value, unsigned
from amaranth.lib import data

from tidemill_hdl.memory.banked import BankedMemory
from tidemill_verif.formal.harness import Harness
from tidemill_verif.formal.proof import Proof, Twin

_FILE = "memory/banked.py"
_BANKS, _ROWS, _WIDTH = 2, 2, 4
_DEPTH = _BANKS * _ROWS
_READERS, _WRITERS = 3, 2


def _memory() -> BankedMemory:
    return BankedMemory(data.ArrayLayout(unsigned(_WIDTH // 2), 2), _DEPTH, _BANKS, _READERS, _WRITERS, pinned=True)


def _row_of(pinned: data.View) -> Value:
    """The row of all banks that a pinned port asks for."""
    return Cat(pinned.addr, pinned.bank[1])


class _MemoryHarness(Harness):
    """A memory with any requests; the pinned ports ask one bank at most."""

    def _memory(self, m: Module) -> BankedMemory:
        m.submodules.dut = dut = _memory()
        self.free_inputs(dut)
        for pinned in (dut.pinned_r, dut.pinned_w):
            self.assume(~pinned.bank.all())
        return dut


class ArbiterHarness(_MemoryHarness):
    """Any requests at all ports."""

    def build(self, m: Module) -> None:
        dut = self._memory(m)
        self._side("read", [dut.r[p].stall for p in range(_READERS)], dut.pinned_r, "r")
        self._side("write", [dut.w[p].stall for p in range(_WRITERS)], dut.pinned_w, "w")

    def _side(self, side: str, stalls: list[Value], pinned: data.View, letter: str) -> None:
        """The ports in their order: the pinned one first."""
        valid, addr = [pinned.bank.any()], [_row_of(pinned)]
        for p in range(len(stalls)):
            valid.append(self.inner(f"dut.{letter}{p}_buffer.o_valid"))
            front = self.inner(f"dut.{letter}{p}_buffer.front", 2 if letter == "r" else 2 + _WIDTH)
            addr.append(front[:2])
        grant = [
            self.inner(f"dut.{name}_grant")
            for name in (f"pinned_{letter}", *(f"{letter}{p}" for p in range(len(stalls))))
        ]
        same = [[addr[i][1] == addr[j][1] for j in range(len(addr))] for i in range(len(addr))]
        pairs = [(i, j) for i in range(len(addr)) for j in range(i)]
        self.prove(f"{side}_exclusive", Cat(~(grant[i] & grant[j] & same[i][j]) for i, j in pairs).all())
        wanted = [Cat(valid[j] & same[i][j] for j in range(i)).any() if i else Cat(0) for i in range(len(addr))]
        self.prove(f"{side}_order", Cat(g == (v & ~w) for g, v, w in zip(grant, valid, wanted, strict=True)).all())
        self.prove(f"{side}_pinned", ~valid[0] | grant[0])
        lost = [self.past(valid[p + 1] & ~grant[p + 1], f"lost_{letter}{p}") for p in range(len(stalls))]
        self.prove(f"{side}_stall", Cat(s == was for s, was in zip(stalls, lost, strict=True)).all())
        self.cover(f"{side}_all", Cat(valid).all() & same[0][1] & same[1][2])


class _RowHarness(_MemoryHarness):
    """Any requests, except that only `writer` writes one row, any."""

    def _row(self, dut: BankedMemory, writer: int | None) -> Value:
        """The row; assumes that nobody else writes it."""
        row = self.constant("row", 2)
        self.assume(~dut.pinned_w.bank.any() | (_row_of(dut.pinned_w) != row))
        for p, port in enumerate(dut.w):
            if p != writer:
                self.assume(~port.req.valid | (port.req.payload.addr != row))
                entries = []
                for place, valid in (("front", "o_valid"), ("spare", "spare_full")):
                    entry = self.inner(f"dut.w{p}_buffer.{place}", 2 + _WIDTH)
                    entries.append(~self.inner(f"dut.w{p}_buffer.{valid}") | (entry[:2] != row))
                self.lemma(f"other_writes_{p}", Cat(entries).all())
        return row

    def _of_bank(self, row: Value, name: str, width: int = 1) -> Value:
        """The wire `name` of the row's bank."""
        return Array(self.inner(f"dut.bank{b}{name}", width) for b in range(_BANKS))[row[1]]

    def _content(self, row: Value) -> Value:
        """What the memory holds in the row."""
        return Array(self.inner(f"dut.bank{b}.ram[{i}]", _WIDTH) for b in range(_BANKS) for i in range(_ROWS))[row]


class ReadHarness(_RowHarness):
    """Any requests, except that one row, any, is not written: it keeps what it held at reset.

    In each port one request for that row is tracked as in the proofs of the queues.
    """

    def build(self, m: Module) -> None:
        dut = self._memory(m)
        row = self._row(dut, None)
        content = self._content(row)
        # What comes out of the row's bank, stage by stage.
        enable, addr = self._of_bank(row, "_r_en"), self._of_bank(row, "_r_addr")
        read, output = self._of_bank(row, ".read__data", _WIDTH), self._of_bank(row, ".output", _WIDTH)
        self.lemma("kept", ~(self._of_bank(row, "_w_en") & (self._of_bank(row, "_w_addr") == row[0])))
        for p, port in enumerate(dut.r):
            taken, answer = port.req.valid & port.req.ready, port.rsp_valid
            inside, ahead = Signal(4, name=f"inside{p}"), Signal(4, name=f"ahead{p}")
            marked = Signal(name=f"marked{p}")
            m.d.sync += inside.eq(inside + taken - answer)
            with m.If(~marked & taken & (port.req.payload == row) & self.free(f"mark{p}")):
                m.d.sync += [marked.eq(1), ahead.eq(inside - answer)]
            with m.Elif(marked & answer):
                m.d.sync += [marked.eq(ahead != 0), ahead.eq(Mux(ahead == 0, 0, ahead - 1))]
            right = Value.cast(port.rsp_data) == content
            self.prove(f"row_{p}", ~(marked & answer & (ahead == 0)) | right)
            self.prove(f"answers_{p}", ~answer | (inside != 0))

            valid = [answer, *(self.inner(f"dut.r{p}_tag_valid{stage}") for stage in (2, 1, 0))]
            valid += [self.inner(f"dut.r{p}_buffer.{name}") for name in ("o_valid", "spare_full")]
            bank = [self.inner(f"dut.r{p}_tag_bank{stage}") == row[1] for stage in (2, 1, 0)]
            front, spare = (self.inner(f"dut.r{p}_buffer.{name}", 2) for name in ("front", "spare"))
            holds = [right, bank[0] & (output == content), bank[1] & (read == content)]
            holds += [bank[2] & enable & (addr == row[0]), front == row, spare == row]
            self.lemma(f"entries_{p}", (inside == sum(valid)) & (valid[4] | ~valid[5]))
            self.lemma(f"marked_{p}", ~marked | (ahead < inside))
            places = [~(marked & valid[i] & (ahead == sum(valid[:i]))) | holds[i] for i in range(6)]
            self.lemma(f"places_{p}", Cat(places).all())
            self.cover(f"waited_{p}", marked & answer & (ahead == 0) & (inside >= 5) & (content == 9))
        hit: Value = dut.pinned_r.bank.any() & (_row_of(dut.pinned_r) == row)
        for stage in range(dut.pinned_latency):
            hit = self.past(hit, f"pinned_hit{stage}")
        self.prove("pinned", ~hit | (Value.cast(dut.pinned_r.data) == content))


class WriteHarness(_RowHarness):
    """Any requests, except that one row, any, is written through one port only.

    Parameters
    ----------
    port : int
        The port whose writes of the row are followed.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        super().__init__()

    def build(self, m: Module) -> None:
        dut = self._memory(m)
        row = self._row(dut, self.port)
        port = dut.w[self.port]
        request = port.req.payload
        hit = port.req.valid & port.req.ready & (request.addr == row)
        written, latest = Signal(), Signal(_WIDTH)
        with m.If(hit):
            m.d.sync += [written.eq(1), latest.eq(request.data)]
        content = self._content(row)
        # Writes taken two or more cycles ago.
        due, owed = self.past(written, "due"), self.past(latest, "owed")
        self.prove("in_memory", ~(port.idle & due) | (content == owed))

        buffer = f"dut.w{self.port}_buffer"
        front, spare = (self.inner(f"{buffer}.{name}", 2 + _WIDTH) for name in ("front", "spare"))
        full, spare_full = self.inner(f"{buffer}.o_valid"), self.inner(f"{buffer}.spare_full")
        enable, addr = self._of_bank(row, "_w_en"), self._of_bank(row, "_w_addr")
        value = self._of_bank(row, "_w_data", _WIDTH)
        at_bank = enable & (addr == row[0])
        in_memory = Mux(at_bank, value, content)
        in_front = Mux(full & (front[:2] == row), front[2:], in_memory)
        in_spare = Mux(spare_full & (spare[:2] == row), spare[2:], in_front)
        self.lemma("newest", ~written | (in_spare == latest))
        self.lemma("order", ~spare_full | full)
        took = self.past(port.req.valid & port.req.ready, "took")
        before = Mux(took, Mux(spare_full, in_front, in_memory), in_spare)
        self.lemma("owed", ~due | (before == owed))
        self.lemma("taken", ~took | full)
        self.lemma("idle", ~port.idle | (~at_bank & ~spare_full & (full == took)))
        self.cover("waited", written & full & spare_full & (content == 3))


_ARBITER_SAYS = {
    f"{side}_{name}": text.format(side)
    for side in ("read", "write")
    for name, text in {
        "exclusive": "a bank serves at most one {} a cycle",
        "order": "a {} is served exactly when no port before it wants the same bank; the first is always served",
        "pinned": "the pinned {} port is never refused",
        "stall": "`stall` counts each cycle that a {} lost its bank, and no other",
    }.items()
}
_GRANT = "grants.append(want & ~taken)"
_STALL = "stall.eq(buffer.o.valid & ~grant)"
_TAKEN = "taken = want | taken"
_WANT = "want = requester.wants[bank]"
_REFUSED = 'want = requester.wants[bank] & ~(requesters[1].wants[bank] & (requester.name == "pinned_{0}"))'
_ARBITER_TWINS = (
    *(
        twin
        for side, letter in (("read", "r"), ("write", "w"))
        for twin in (
            Twin(f"{side}_exclusive", _FILE, "grants.append(want & ~taken)", "grants.append(want)"),
            Twin(f"{side}_order", _FILE, _TAKEN, "taken = Cat(requester.wants).any() | taken"),
            Twin(f"{side}_pinned", _FILE, _WANT, _REFUSED.format(letter)),
        )
    ),
    Twin("read_stall", _FILE, _STALL, "stall.eq(req.valid & ~grant)"),
    Twin("write_stall", _FILE, _STALL, "stall.eq(buffer.o.valid & grant)"),
)
_READ_SAYS = {
    **{f"row_{p}": f"port {p}: every response is the row asked for, in order, after any wait" for p in range(_READERS)},
    **{f"answers_{p}": f"port {p}: no response without its request" for p in range(_READERS)},
    "pinned": "the pinned port's row comes after exactly `pinned_latency` cycles",
}
_SELECT = "m.d.sync += [next_valid.eq(valid), next_select.eq(select)]"
_EARLY = "m.d.sync += [next_valid.eq(valid), next_select.eq(requester.bank)]"
_MORE = "m.d.sync += [next_valid.eq(valid | Cat(requester.wants).any()), next_select.eq(select)]"
_READ_TWINS = (
    *(Twin(f"row_{p}", _FILE, _SELECT, _EARLY) for p in range(_READERS)),
    *(Twin(f"answers_{p}", _FILE, _SELECT, _MORE) for p in range(_READERS)),
    Twin("pinned", _FILE, "select: Value = requester.bank", "select: Value = requester.addr[:1]"),
)
_WRITE_TWIN = Twin("in_memory", _FILE, "idle.eq(~waits)", "idle.eq(~waits | grant)")

PROOFS = (
    Proof(
        "arbiters",
        partial(ArbiterHarness),
        _ARBITER_SAYS,
        _ARBITER_TWINS,
        {f"{side}_all": f"all {side} ports want one bank" for side in ("read", "write")},
        depth=6,
    ),
    Proof(
        "reads",
        partial(ReadHarness),
        _READ_SAYS,
        _READ_TWINS,
        {f"waited_{p}": f"port {p}: a tracked request behind four others is answered" for p in range(_READERS)},
        depth=12,
        cover_depth=16,
    ),
    *(
        Proof(
            f"writes_{port}",
            partial(WriteHarness, port),
            {"in_memory": "`idle`: every write taken two or more cycles ago is in the memory"},
            (_WRITE_TWIN,),
            {"waited": "three writes of the row are under way, an older one is in the memory"},
            depth=10,
        )
        for port in range(_WRITERS)
    ),
)
