"""The machine's control unit: registers, run sequence, errors, watchdog, counters."""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from tidemill import csr
from tidemill.config import ISA_VERSION, Config
from tidemill.csr import BY_NAME, COUNTERS, CSRS, Access, Cause, Unit
from tidemill.isa import INSTRUCTION_BYTES
from tidemill_hdl.csr.axilite import WORD_BITS, AxiLiteBridge
from tidemill_hdl.csr.counters import Counters, Events
from tidemill_hdl.interfaces import PC_BITS, Axi4LiteSlave, Fault, Window

RESET_CYCLES = 4
"""Cycles of `core_reset` before a program starts."""

QUIET_CYCLES = 4
"""Cycles after `quiesce` rises in which `quiet` does not yet count."""

READ_GROUP = 8
"""Words that the first stage of the read multiplexer chooses from."""


def _bits(register: str) -> data.StructLayout:
    """Layout of a register with named bits."""
    return data.StructLayout(dict.fromkeys(BY_NAME[register].bits, 1))


def _register_width(name: str) -> int:
    """Bits of a writable register that exist."""
    if name == "PROG_LEN":
        return PC_BITS
    return len(BY_NAME[name].bits) or 32


def _kept_bits(name: str) -> int:
    """Mask of the bits of a writable register that keep what is written; the others stay zero."""
    return -INSTRUCTION_BYTES if name == "PROG_ADDR" else -1


class Control(wiring.Component):
    """CSRs of `tidemill.csr` on AXI4-Lite, and the sequence start - run - drain.

    Parameters
    ----------
    config : Config

    Members
    -------
    s_axil : Out(Axi4LiteSlave): byte strobes are honoured. Writes to read-only or unmapped words are answered OKAY and
        ignored, unmapped words read as zero. PROG_LEN keeps 24 bits, IRQ_ENABLE 3; bits 3:0 of PROG_ADDR stay zero. The
        host leaves PROG_ADDR, PROG_LEN and the windows alone while STATUS.busy.
    irq : Out(1): level, some bit of IRQ_STATUS & IRQ_ENABLE is set.
    start : Out(1): a pulse to the frontend, after `core_reset` has fallen.
    core_reset : Out(1): resets all but gateway and control, which may take a cycle to come and to go.
    quiesce : Out(1): the gateway lets no new burst out and finishes those under way.
    quiet : In(1): the gateway has nothing under way; ignored in the first 4 cycles of `quiesce`.
    prog_addr : Out(32), prog_len : Out(24), read_window, write_window : Out(Window)
    halted : In(1): level from the frontend.
    user_irq : In(1), user_code : In(16): from the frontend.
    pc : In(24): the frontend's instruction, for the watchdog.
    faults : In(array of 6 Fault): in the order of `csr.Unit`; the first in time, then in this order, is kept. Looked at
        a cycle after it came: it holds until its unit is reset.
    blocked : In(1), blocked_pc : In(24), blocked_mask : In(16): the waiting engine instruction, for the watchdog.
    progress : In(1): something moved in this cycle.
    events : In(Events): for the counters.

    Sequence
    --------
    IDLE; a start (no error, not busy, not resetting): `core_reset` for 4 cycles, `start`, RUN. On `halted`:
    `quiesce` until `quiet`, then STATUS.done, IRQ_STATUS.done, `core_reset` for a cycle, the last of `quiesce`,
    IDLE. On a fault: STATUS.error, IRQ_STATUS.error and the ERROR registers (ERROR_PC one cycle later), `quiesce`
    and `core_reset` until `quiet`, then IDLE, not busy. On a soft reset at any time: done, error and the ERROR
    registers clear (IRQ_STATUS does not), not busy but resetting, `quiesce` and `core_reset` until `quiet`, then
    IDLE. A soft reset wins over a start in the same write; an event wins over its write-one-to-clear. A fault after
    `halted` and before `quiet` still makes the program end in error, one in the cycle of `quiet` does not count.

    The watchdog fires after WATCHDOG cycles of RUN without `progress` (0: never): unit SYNC with the blocked
    instruction and its mask, or else FRONTEND with `pc` and info 0. Faults of units win over it.

    Counters clear at start and stand still after done or error; CYCLES counts while busy without error, events from RUN
    to the end or a fault. All outputs are registers; outside reset values they follow their cause within 2 cycles.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        super().__init__(
            {
                "s_axil": Out(Axi4LiteSlave()),
                "irq": Out(1),
                "start": Out(1),
                "core_reset": Out(1),
                "quiesce": Out(1),
                "quiet": In(1),
                "prog_addr": Out(32),
                "prog_len": Out(PC_BITS),
                "read_window": Out(Window()),
                "write_window": Out(Window()),
                "halted": In(1),
                "user_irq": In(1),
                "user_code": In(16),
                "pc": In(PC_BITS),
                "faults": In(Fault()).array(len(Unit)),
                "blocked": In(1),
                "blocked_pc": In(PC_BITS),
                "blocked_mask": In(16),
                "progress": In(1),
                "events": In(Events),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.bridge = bridge = AxiLiteBridge()
        m.submodules.counters = counters = Counters()
        connect(m, flipped(self.s_axil), bridge.s_axil)
        m.d.comb += counters.events.eq(self.events)

        writable = {
            register.name: Signal(_register_width(register.name), name=register.name.lower(), init=register.reset)
            for register in CSRS
            if register.access is Access.RW
        }
        m.d.comb += [
            self.prog_addr.eq(writable["PROG_ADDR"]),
            self.prog_len.eq(writable["PROG_LEN"]),
            self.read_window.base.eq(writable["READ_BASE"]),
            self.read_window.limit.eq(writable["READ_LIMIT"]),
            self.write_window.base.eq(writable["WRITE_BASE"]),
            self.write_window.limit.eq(writable["WRITE_LIMIT"]),
        ]

        # ---- writes
        written = Signal(32)
        m.d.comb += written.eq(Cat(bridge.w_data.word_select(i, 8) & bridge.w_strb[i].replicate(8) for i in range(4)))

        def selected(name: str) -> Value:
            return bridge.w_valid & (bridge.w_addr == csr.offset(name) // 4)

        for name, register in writable.items():
            with m.If(selected(name)):
                for i in range(0, len(register), 8):
                    with m.If(bridge.w_strb[i // 8]):
                        m.d.sync += register[i : i + 8].eq(bridge.w_data[i : i + 8] & (_kept_bits(name) >> i & 0xFF))
        command = Signal(_bits("CONTROL"))
        m.d.sync += command.eq(Mux(selected("CONTROL"), written, 0))

        # ---- run sequence
        status = Signal(_bits("STATUS"))
        irq_status = Signal(_bits("IRQ_STATUS"))
        irq_events = Signal(_bits("IRQ_STATUS"))
        cause = Signal(4)
        unit = Signal(4)
        index = Signal(PC_BITS)
        info = Signal(32)
        user_code = Signal(16)
        countdown = Signal(range(max(RESET_CYCLES, QUIET_CYCLES)))
        watching = Signal()
        may_fault = Signal()
        fault_now = Signal()
        expired = Signal()
        # The first unit's fault, a cycle later: nothing wide waits for the choice.
        any_fault = Signal()
        chosen_fault = Signal(len(self.faults))
        came = Cat(fault.valid for fault in self.faults)
        m.d.sync += any_fault.eq(came.any())
        m.d.sync += chosen_fault.eq(Cat(came[i] & ~came[:i].any() for i in range(len(came))))
        m.d.comb += fault_now.eq(may_fault & (any_fault | expired))
        m.d.sync += [self.start.eq(0), counters.clear.eq(0)]
        with m.If(countdown != 0):
            m.d.sync += countdown.eq(countdown - 1)

        def interruptible() -> None:
            """In any state: faults and soft resets go to DRAIN_RESET."""
            with m.If(command.soft_reset | fault_now):
                m.next = "DRAIN_RESET"

        with m.FSM(name="machine"):
            with m.State("IDLE"):
                m.d.sync += [self.core_reset.eq(0), self.quiesce.eq(0)]
                with m.If(command.start & ~status.error):
                    m.d.sync += [
                        status.busy.eq(1),
                        status.done.eq(0),
                        user_code.eq(0),
                        counters.clear.eq(1),
                        self.core_reset.eq(1),
                        countdown.eq(RESET_CYCLES - 1),
                    ]
                    m.next = "RESET"
                interruptible()
            with m.State("RESET"):
                with m.If(countdown == 0):
                    m.d.sync += self.core_reset.eq(0)
                    m.next = "START"
                interruptible()
            with m.State("START"):
                m.d.sync += [self.start.eq(1), may_fault.eq(1), watching.eq(1)]
                m.next = "RUN"
                interruptible()
            with m.State("RUN"):
                with m.If(self.user_irq):
                    m.d.sync += user_code.eq(self.user_code)
                    m.d.comb += irq_events.user.eq(1)
                with m.If(self.halted):
                    m.d.sync += [self.quiesce.eq(1), watching.eq(0), countdown.eq(QUIET_CYCLES - 1)]
                    m.next = "DRAIN_DONE"
                interruptible()
            with m.State("DRAIN_DONE"):
                with m.If((countdown == 0) & self.quiet):
                    # A fetch command that the gateway did not take must not go out once it listens again: `quiesce`
                    # lasts until the reset has come.
                    m.d.sync += [self.core_reset.eq(1), status.busy.eq(0), status.done.eq(1), may_fault.eq(0)]
                    m.d.comb += irq_events.done.eq(1)
                    m.next = "IDLE"
                interruptible()
            with m.State("DRAIN_RESET"):
                with m.If((countdown == 0) & self.quiet):
                    m.d.sync += [
                        self.quiesce.eq(0), self.core_reset.eq(0), status.busy.eq(0), status.resetting.eq(0),
                    ]  # fmt: skip
                    m.next = "IDLE"
                interruptible()

        with m.If(fault_now):
            m.d.comb += [irq_events.error.eq(1), irq_events.done.eq(0)]
            m.d.sync += [
                status.error.eq(1), status.done.eq(0), status.busy.eq(1),
                cause.eq(Cause.WATCHDOG),
                unit.eq(Mux(self.blocked, Unit.SYNC, Unit.FRONTEND)),
                index.eq(Mux(self.blocked, self.blocked_pc, self.pc)),
                info.eq(Mux(self.blocked, self.blocked_mask, 0)),
            ]  # fmt: skip
            for number, fault in enumerate(self.faults):
                with m.If(chosen_fault[number]):
                    m.d.sync += [cause.eq(fault.cause), unit.eq(number), index.eq(fault.pc), info.eq(fault.info)]
        with m.If(command.soft_reset):
            m.d.comb += [irq_events.done.eq(0), irq_events.error.eq(0)]
            m.d.sync += [
                status.busy.eq(0), status.done.eq(0), status.error.eq(0), status.resetting.eq(1), self.start.eq(0),
                cause.eq(Cause.NONE), unit.eq(0), index.eq(0), info.eq(0),
            ]  # fmt: skip
        with m.If(command.soft_reset | fault_now):
            m.d.sync += [
                self.quiesce.eq(1),
                self.core_reset.eq(1),
                may_fault.eq(0),
                watching.eq(0),
                countdown.eq(QUIET_CYCLES - 1),
            ]
        error_pc = Signal(32)
        m.d.sync += error_pc.eq(Mux(cause == Cause.NONE, 0, writable["PROG_ADDR"] + (index << 4)))
        m.d.comb += [
            counters.run.eq(status.busy & ~status.error),
            counters.enable.eq(may_fault & ~fault_now),
        ]

        # ---- watchdog
        patience = Signal(32)
        armed = Signal()
        m.d.sync += armed.eq(watching & (writable["WATCHDOG"] != 0))
        with m.If(~armed | self.progress):
            m.d.sync += [patience.eq(writable["WATCHDOG"]), expired.eq(0)]
        with m.Else():
            m.d.sync += [patience.eq(patience - 1), expired.eq((patience == 1) | expired)]

        # ---- interrupts
        cleared = Mux(selected("IRQ_STATUS"), written, 0)
        m.d.sync += [
            irq_status.eq((irq_status.as_value() & ~cleared[: len(irq_status.as_value())]) | irq_events.as_value()),
            self.irq.eq((irq_status.as_value() & writable["IRQ_ENABLE"]).any()),
        ]

        # ---- reads: groups of words first, then the group
        shape = Cat(
            Const(self.config.rows, 8),
            Const(self.config.cols, 8),
            Const(self.config.requant_lanes, 8),
            Const(self.config.axi_bytes, 8),
        )
        readable: dict[str, Value] = {
            **writable,
            "MAGIC": Const(csr.MAGIC, 32),
            "ISA_VERSION": Const(ISA_VERSION, 32),
            "CONFIG_HASH": Const(self.config.hash, 32),
            "CONFIG_SHAPE": shape,
            "STATUS": status.as_value(),
            "IRQ_STATUS": irq_status.as_value(),
            "ERROR_CAUSE": cause,
            "ERROR_UNIT": unit,
            "ERROR_PC": error_pc,
            "ERROR_INFO": info,
            "USER_CODE": user_code,
        }
        at = {csr.offset(name) // 4: value for name, value in readable.items()}
        for counter in COUNTERS:
            base = csr.counter_offsets()[counter.name] // 4
            for part in range(counter.width // 32):
                at[base + part] = counters.values[counter.name][32 * part : 32 * part + 32]
        groups = max(at) // READ_GROUP + 1
        chosen = [Signal(32, name=f"read_group{group}", reset_less=True) for group in range(groups)]
        low_bits = (READ_GROUP - 1).bit_length()
        for group, value in enumerate(chosen):
            words = Array(at.get(group * READ_GROUP + i, Const(0, 32)) for i in range(READ_GROUP))
            m.d.sync += value.eq(words[bridge.r_addr[:low_bits]])
        high = bridge.r_addr[low_bits:WORD_BITS]
        answer = Signal(32, reset_less=True)
        m.d.sync += answer.eq(0)
        for group, value in enumerate(chosen):
            with m.If(high == group):
                m.d.sync += answer.eq(value)
        m.d.comb += bridge.r_data.eq(answer)
        return m
