"""The matrix engine: executes the mx instructions."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from tidemill.config import Config
from tidemill.csr import Cause
from tidemill.isa import BY_MNEMONIC
from tidemill_hdl.interfaces import AccumulatePort, Done, EngineInstruction, Fault, spad_read_port
from tidemill_hdl.isa_layout import layout
from tidemill_hdl.memory.accumulators import Accumulators
from tidemill_hdl.prim.queue import Queue, SkidBuffer

from .array import SystolicArray
from .loader import WeightLoader
from .walker import BODY_LO, ActivationWalker, Kind

_INPUT_CYCLES = 1
"""From the decision to send a row or a weight to the array's input."""

_KINDS = {"mx.sync": Kind.SYNC, "mx.act": Kind.ACT, "mx.acc": Kind.ACC, "mx.run": Kind.RUN}


class MatrixEngine(wiring.Component):
    """Executes mx.sync, mx.act, mx.acc, mx.wload and mx.run; what they do is in `docs/architecture.md`.

    Instructions are sorted into two lines: `WeightLoader` fetches tiles for the shadow weights, `ActivationWalker`
    everything else. Both fetch ahead of the array and meet at its input, where a swap waits for its weights and an
    accumulate for the row it adds to. From there on everything has a fixed latency.

    Members
    -------
    instr : In(stream of EngineInstruction): legal matrix instructions whose waits are over.
    done : Out(Done): one pulse for every instruction but mx.wload, in program order, when all that came before it is
        complete: requests taken by the accumulators in the cycle of the pulse or later come after its rows.
    done_weights : Out(Done): one pulse for every mx.wload, in program order, when its rows have been read.
    fault : Out(Fault): LOCAL_RANGE (info: the row, signed and without the space bit; activation before
        accumulator) or ILLEGAL_OPERAND (mx.run with swap and no mx.wload since the last swap, or mx.wload with no
        swap since the last; info: bits 31:0 of the instruction). Of several faulty instructions
        under way the first one found counts. Raised when all rows before have left the array: `SETTLE_CYCLES`
        without progress.
    act, wgt : Out(ReadPort): scratchpad ports for activations and weights.
    acc : Out(AccumulatePort): must behave as `Accumulators.array` with its `hazard_distance` and `commit_latency`.
    row : Out(1): event, an activation row went into the array.
    progress : Out(1): event, a row of activations or weights moved.

    Timing: an mx.run of M rows with the mx.wload of its tile costs max(M + 1, R + 1) cycles in the long run; an
    mx.sync, mx.act or mx.acc takes one cycle in which no activation row goes in; an accumulate waits for its hazard
    distance. Reset: weights zero, configuration as at program start.
    """

    TOKENS = 16
    """Instructions between the array's input and their done pulse."""
    SETTLE_CYCLES = 16
    """A fetch ahead that is still possible shows progress within this time: covers the memory's latency."""

    def __init__(self, config: Config) -> None:
        self.config = config
        super().__init__(
            {
                "instr": In(stream.Signature(EngineInstruction)),
                "done": Out(Done()),
                "done_weights": Out(Done()),
                "fault": Out(Fault()),
                "act": Out(spad_read_port(config)),
                "wgt": Out(spad_read_port(config)),
                "acc": Out(AccumulatePort(config)),
                "row": Out(1),
                "progress": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        m.submodules.loader = loader = WeightLoader(config)
        m.submodules.walker = walker = ActivationWalker(config, Accumulators.hazard_distance)
        m.submodules.array = array = SystolicArray(config.rows, config.cols, config.psum_bits)
        connect(m, flipped(self.act), walker.act)
        connect(m, flipped(self.wgt), loader.wgt)
        m.d.comb += [
            self.done_weights.valid.eq(loader.done.valid),
            self.done_weights.signal.eq(loader.done.signal),
            loader.enable.eq(~self.fault.valid),
        ]
        self._elaborate_decode(m, loader, walker, _INPUT_CYCLES + array.latency)
        self._elaborate_issue(m, loader, walker, array)
        return m

    def _elaborate_decode(self, m: Module, loader: WeightLoader, walker: ActivationWalker, array_latency: int) -> None:
        """Sorts instructions into the two lines and collects faults."""
        decoded = data.StructLayout({"instr": EngineInstruction, "kind": unsigned(2), "wload": unsigned(1)})
        m.submodules.head = head = SkidBuffer(decoded)
        m.d.comb += [
            head.i.valid.eq(self.instr.valid),
            self.instr.ready.eq(head.i.ready),
            head.i.payload.instr.eq(self.instr.payload),
        ]
        with m.Switch(self.instr.payload.word[:8]):
            for mnemonic, kind in _KINDS.items():
                with m.Case(BY_MNEMONIC[mnemonic].opcode):
                    m.d.comb += head.i.payload.kind.eq(kind)
            with m.Case(BY_MNEMONIC["mx.wload"].opcode):
                m.d.comb += head.i.payload.wload.eq(1)

        instr = head.o.payload.instr
        wload = layout("mx.wload")(instr.word)
        unswapped = Signal()
        after_wload = Signal()
        swap = Signal()
        illegal = Signal()
        go = Signal()
        fault = Signal()
        m.d.comb += [
            walker.enable.eq(~fault),
            swap.eq((head.o.payload.kind == Kind.RUN) & layout("mx.run")(instr.word).swap & ~head.o.payload.wload),
            illegal.eq((head.o.payload.wload & unswapped) | (swap & ~unswapped)),
            go.eq(head.o.valid & ~illegal & ~fault),
            loader.cmd.valid.eq(go & head.o.payload.wload),
            loader.cmd.payload.src.eq(wload.src),
            loader.cmd.payload.stride.eq(wload.stride),
            loader.cmd.payload.signal.eq(wload.signal),
            loader.cmd.payload.pc.eq(instr.pc),
            walker.cmd.valid.eq(go & ~head.o.payload.wload),
            walker.cmd.payload.kind.eq(head.o.payload.kind),
            walker.cmd.payload.after_wload.eq(after_wload),
            walker.cmd.payload.pc.eq(instr.pc),
            walker.cmd.payload.body.eq(instr.word[BODY_LO:]),
        ]
        with m.If(loader.cmd.valid & loader.cmd.ready):
            m.d.comb += head.o.ready.eq(1)
            m.d.sync += [unswapped.eq(1), after_wload.eq(1)]
        with m.If(walker.cmd.valid & walker.cmd.ready):
            m.d.comb += head.o.ready.eq(1)
            m.d.sync += after_wload.eq(0)
            with m.If(swap):
                m.d.sync += unswapped.eq(0)

        cause = Signal(self.fault.cause.shape(), reset_less=True)
        pc = Signal(self.fault.pc.shape(), reset_less=True)
        info = Signal(32, reset_less=True)
        with m.If(~fault):
            # An illegal instruction waits for the ones before it: an error of theirs is the first one.
            with m.If(head.o.valid & illegal & loader.idle & walker.idle):
                m.d.sync += [
                    fault.eq(1),
                    cause.eq(Cause.ILLEGAL_OPERAND),
                    pc.eq(instr.pc),
                    info.eq(instr.word[:32]),
                ]
            for source in (loader.fault, walker.fault):
                with m.If(source.valid):
                    m.d.sync += [fault.eq(1), cause.eq(source.cause), pc.eq(source.pc), info.eq(source.info)]
        # The error is known; what came before it still moves through the array.
        settled = array_latency + Accumulators.commit_latency + self.SETTLE_CYCLES
        quiet = Signal(range(settled + 1))
        with m.If(self.progress | ~fault):
            m.d.sync += quiet.eq(0)
        with m.Elif(quiet != settled):
            m.d.sync += quiet.eq(quiet + 1)
        reported = Signal()
        m.d.sync += reported.eq(quiet == settled)
        m.d.comb += [
            self.fault.valid.eq(reported),
            self.fault.cause.eq(cause),
            self.fault.pc.eq(pc),
            self.fault.info.eq(info),
        ]

    def _elaborate_issue(self, m: Module, loader: WeightLoader, walker: ActivationWalker, array: SystolicArray) -> None:
        """The array's input and output, and completion."""
        config = self.config
        issue = walker.o.payload
        latency = _INPUT_CYCLES + array.latency

        # ---- weights: a tile moves into the shadow weights as soon as the swap of the one before has gone by
        loaded = Signal()
        index = Signal(range(config.rows))
        take_weights = Signal()
        m.d.comb += [
            take_weights.eq(loader.present & ~loaded),
            loader.take.eq(take_weights),
            array.weight.row.eq(loader.row),
        ]
        m.d.sync += [array.weight.valid.eq(take_weights), array.weight.index.eq(index)]
        with m.If(take_weights):
            m.d.sync += index.eq(index + 1)
            with m.If(index == config.rows - 1):
                m.d.sync += loaded.eq(1)

        # ---- activations
        completion = data.StructLayout({"signal": unsigned(16), "after_wload": unsigned(1)})
        m.submodules.completions = completions = Queue(completion, self.TOKENS)
        window = Accumulators.hazard_distance - 1
        issued = Signal(window)
        recent = Signal(range(window + 1))
        take = Signal()
        take_row = Signal()
        tokens_left = Signal()  # a level behind: room for the token of this cycle and of the next
        m.d.sync += tokens_left.eq(completions.level < self.TOKENS - 1)
        m.d.comb += [
            # `recent` rows went in during the last `window` cycles: the one `distance` before is not among them.
            walker.o.ready.eq((recent < issue.distance) & (~issue.swap | loaded) & (~issue.token | tokens_left)),
            take.eq(walker.o.valid & walker.o.ready),
            take_row.eq(take & issue.row),
            array.act.row.eq(walker.row),
        ]
        m.d.sync += [array.act.valid.eq(take_row), array.act.swap.eq(issue.swap)]
        m.d.sync += [issued.eq(Cat(take_row, issued)), recent.eq(recent + take_row - issued[-1])]
        with m.If(take_row & issue.swap):
            m.d.sync += loaded.eq(0)

        # ---- results: the destination waits in a queue as long as the row is in the array
        destination = data.StructLayout({"acc": issue.acc.shape(), "accumulate": unsigned(1)})
        m.submodules.destinations = destinations = Queue(destination, latency + 2)
        m.d.comb += [
            destinations.i.valid.eq(take_row),
            destinations.i.payload.acc.eq(issue.acc),
            destinations.i.payload.accumulate.eq(issue.accumulate),
            destinations.o.ready.eq(array.out.valid),
            self.acc.valid.eq(array.out.valid),
            self.acc.data.eq(array.out.row),
            self.acc.addr.eq(destinations.o.payload.acc),
            self.acc.accumulate.eq(destinations.o.payload.accumulate),
        ]

        # ---- completion: a token needs `commit` cycles; two of them are the counter and the done register
        tokens = Signal(latency + Accumulators.commit_latency - 2)
        ripe = Signal(range(self.TOKENS + 2))
        weights_read = Signal(8)
        complete = Signal()
        m.d.comb += [
            completions.i.valid.eq(take & issue.token),
            completions.i.payload.signal.eq(issue.signal),
            completions.i.payload.after_wload.eq(issue.after_wload),
            complete.eq(completions.o.valid & (ripe != 0) & (~completions.o.payload.after_wload | (weights_read != 0))),
            completions.o.ready.eq(complete),
        ]
        done = Signal()
        done_signal = Signal(16, reset_less=True)
        m.d.sync += [
            tokens.eq(Cat(take & issue.token, tokens)),
            ripe.eq(ripe + tokens[-1] - complete),
            weights_read.eq(weights_read + loader.done.valid - (complete & completions.o.payload.after_wload)),
            done.eq(complete),
            done_signal.eq(completions.o.payload.signal),
        ]
        row = Signal()
        progress = Signal()
        m.d.sync += [row.eq(take_row), progress.eq(take | take_weights)]
        m.d.comb += [
            self.done.valid.eq(done),
            self.done.signal.eq(done_signal),
            self.row.eq(row),
            self.progress.eq(progress),
        ]
