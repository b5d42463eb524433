"""Turns matrix instructions into rows for the array, in program order."""

from __future__ import annotations

import enum

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from tidemill.config import Config
from tidemill.csr import Cause
from tidemill.isa import ACC_SPACE
from tidemill_hdl.interfaces import PC_BITS, Fault, spad_read_port, spad_row
from tidemill_hdl.isa_layout import layout
from tidemill_hdl.prim.nest import AddressNest
from tidemill_hdl.prim.queue import Queue
from tidemill_hdl.prim.row_queue import RowQueue

from .loader import ADDRESS_BITS


class Kind(enum.IntEnum):
    """What a walker command does."""

    SYNC = 0
    ACT = 1
    ACC = 2
    RUN = 3


BODY_LO = 24
"""Lowest bit of an instruction that matters here: opcode and wait mask are below."""

WalkCommand = data.StructLayout(
    {"kind": unsigned(2), "after_wload": unsigned(1), "pc": unsigned(PC_BITS), "body": unsigned(128 - BODY_LO)}
)
"""A matrix instruction other than mx.wload; `after_wload`: an mx.wload came between it and the command before."""


def issue_layout(config: Config, hazard_distance: int) -> data.StructLayout:
    """What one step of the array's input is.

    row: an activation row goes with it; acc, accumulate, swap, distance belong to the row.
    distance: the row goes to the accumulator row of the `distance`-th row before; `hazard_distance` for none near.
    token: an instruction ends here; signal and after_wload belong to it.
    """
    return data.StructLayout(
        {
            "row": unsigned(1),
            "acc": unsigned((config.acc_rows - 1).bit_length()),
            "accumulate": unsigned(1),
            "swap": unsigned(1),
            "distance": unsigned(hazard_distance.bit_length()),
            "token": unsigned(1),
            "signal": unsigned(16),
            "after_wload": unsigned(1),
        }
    )


class ActivationWalker(wiring.Component):
    """Walks the loops of each `mx.run`, fetches its activation rows, and lines up what the array does next.

    Parameters
    ----------
    config : Config
    hazard_distance : int
        Cycles that an accumulate must stay behind an access to the same accumulator row.

    Members
    -------
    enable : In(1): while clear no new command is begun.
    cmd : In(stream of WalkCommand)
    act : Out(ReadPort): the scratchpad; at most `AHEAD` rows are requested and not taken from `o`.
    o : Out(stream of issue): every row, and a step without a row for each instruction that has none.
    row : Out(scratchpad row): the row of the transfer of the cycle before.
    fault : Out(Fault): LOCAL_RANGE; info is the row as a signed number. Nothing follows in `o`.
    idle : Out(1): no command waits and none has steps that are not in the queue of `o`.

    One row a cycle, one cycle between runs. After reset idle, with the configuration of program start.
    """

    AHEAD = 14

    def __init__(self, config: Config, hazard_distance: int) -> None:
        self.config = config
        self.hazard_distance = hazard_distance
        self.issue = issue_layout(config, hazard_distance)
        super().__init__(
            {
                "enable": In(1),
                "cmd": In(stream.Signature(WalkCommand)),
                "act": Out(spad_read_port(config)),
                "o": Out(stream.Signature(self.issue)),
                "row": Out(spad_row(config)),
                "fault": Out(Fault()),
                "idle": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        spad_bits = (config.spad_rows - 1).bit_length()
        acc_bits = (config.acc_rows - 1).bit_length()
        m.submodules.commands = commands = Queue(WalkCommand, 4)
        m.submodules.nest = nest = AddressNest([12, 12, 12], [ADDRESS_BITS, ADDRESS_BITS])
        connect(m, flipped(self.cmd), commands.i)

        point = data.StructLayout(
            {
                "act": signed(ADDRESS_BITS),
                "acc": signed(ADDRESS_BITS),
                "wrong_act": 1,
                "wrong_acc": 1,
                "issue": self.issue,
            }
        )
        # Two stages between nest and queues: `checked` holds addresses, `compared` the matches with earlier rows.
        checked = Signal(point, reset_less=True)
        checked_valid = Signal()
        checked_pc = Signal(PC_BITS, reset_less=True)
        compared = Signal(point, reset_less=True)
        compared_valid = Signal()
        matches = Signal(self.hazard_distance - 1, reset_less=True)
        checked_ready = Signal()
        compared_ready = Signal()
        fault = Signal()

        # ---- commands: configuration, and the start of a walk
        command = commands.o.payload
        word = Cat(Const(0, BODY_LO), command.body)
        act_view = layout("mx.act")(word)
        acc_view = layout("mx.acc")(word)
        run_view = layout("mx.run")(word)
        counts = [Signal(12, init=1, name=f"n{k}") for k in range(3)]
        act_strides = [Signal(signed(16), name=f"s{k}") for k in range(3)]
        acc_strides = [Signal(signed(16), name=f"t{k}") for k in range(3)]
        begin = Signal()
        start = Signal()
        marker = Signal()
        m.d.comb += [
            begin.eq(commands.o.valid & ~nest.valid & self.enable & ~fault),
            start.eq(begin & (command.kind == Kind.RUN)),
            marker.eq(begin & (command.kind != Kind.RUN) & checked_ready),
            commands.o.ready.eq(start | marker),
            nest.start.eq(start),
            nest.base.s0.eq(run_view.act & (ACC_SPACE - 1)),
            nest.base.s1.eq(run_view.acc & (ACC_SPACE - 1)),
        ]
        with m.If(marker & (command.kind == Kind.ACT)):
            for k in range(3):
                m.d.sync += [counts[k].eq(act_view[f"n{k}"]), act_strides[k].eq(act_view[f"s{k}"])]
        with m.If(marker & (command.kind == Kind.ACC)):
            m.d.sync += [acc_strides[k].eq(acc_view[f"t{k}"]) for k in range(3)]

        # ---- the walk; configuration only changes between walks
        run = Signal(point, reset_less=True)
        run_pc = Signal(PC_BITS, reset_less=True)
        with m.If(start):
            m.d.sync += [
                run.wrong_act.eq((run_view.act & ACC_SPACE) != 0),
                run.wrong_acc.eq((run_view.acc & ACC_SPACE) == 0),
                run.issue.accumulate.eq(run_view.accumulate),
                run.issue.swap.eq(run_view.swap),
                run.issue.signal.eq(run_view.signal),
                run.issue.after_wload.eq(command.after_wload),
                run_pc.eq(command.pc),
            ]
        for k in range(3):
            m.d.comb += [
                nest.count[f"c{k}"].eq(counts[k]),
                nest.stride[0][k].eq(act_strides[k]),
                nest.stride[1][k].eq(acc_strides[k]),
            ]
        m.d.comb += nest.step.eq(nest.valid & checked_ready)

        with m.If(checked_ready):
            m.d.sync += checked_valid.eq((nest.valid & ~fault) | marker)
            with m.If(nest.valid):
                m.d.sync += [
                    checked.eq(run),
                    checked.act.eq(nest.address.s0),
                    checked.acc.eq(nest.address.s1),
                    checked.issue.row.eq(1),
                    checked.issue.swap.eq(run.issue.swap & nest.first[-1]),
                    checked.issue.token.eq(nest.last),
                    checked_pc.eq(run_pc),
                ]
            with m.Else():
                m.d.sync += [
                    checked.issue.row.eq(0),
                    checked.issue.swap.eq(0),
                    checked.issue.token.eq(1),
                    checked.issue.signal.eq(run_view.signal),
                    checked.issue.after_wload.eq(command.after_wload),
                ]

        # ---- legality of both addresses
        bad_act = Signal()
        bad_acc = Signal()
        bad = Signal()
        fault_pc = Signal(PC_BITS, reset_less=True)
        fault_info = Signal(signed(ADDRESS_BITS), reset_less=True)
        m.d.comb += [
            bad_act.eq(checked.wrong_act | checked.act[spad_bits:].any()),
            bad_acc.eq(checked.wrong_acc | checked.acc[acc_bits:].any()),
            bad.eq(checked_valid & checked.issue.row & (bad_act | bad_acc)),
            checked_ready.eq(~checked_valid | compared_ready),
        ]
        with m.If(bad & ~fault):
            m.d.sync += [
                fault.eq(1),
                fault_pc.eq(checked_pc),
                fault_info.eq(Mux(bad_act, checked.act, checked.acc)),
            ]
        m.d.comb += [
            self.fault.valid.eq(fault),
            self.fault.cause.eq(Cause.LOCAL_RANGE),
            self.fault.pc.eq(fault_pc),
            self.fault.info.eq(fault_info),
        ]

        # ---- matches with the accumulator rows of the rows before
        history = [Signal(acc_bits, name=f"history{d}", reset_less=True) for d in range(1, self.hazard_distance)]
        known = [Signal(name=f"known{d}") for d in range(1, self.hazard_distance)]
        acc_row = checked.acc[:acc_bits]
        with m.If(compared_ready):
            m.d.sync += [
                compared_valid.eq(checked_valid & ~bad & ~fault),
                compared.eq(checked),
                compared.issue.acc.eq(acc_row),
                matches.eq(Cat(k & (h == acc_row) for k, h in zip(known, history, strict=True))),
            ]
            with m.If(checked_valid & checked.issue.row):
                for d in range(len(history)):
                    m.d.sync += [
                        history[d].eq(history[d - 1] if d else acc_row),
                        known[d].eq(known[d - 1] if d else 1),
                    ]

        # ---- request and queues
        m.submodules.issues = issues = Queue(self.issue, self.AHEAD)
        m.submodules.rows = rows = RowQueue(spad_row(config), self.AHEAD + 2)
        is_row = compared.issue.row
        # A level behind: there is room for the entry of this cycle and of the next.
        space = Signal()
        m.d.sync += space.eq(issues.level < self.AHEAD - 1)
        distance = Signal(range(self.hazard_distance + 1))
        m.d.comb += distance.eq(self.hazard_distance)
        for d in reversed(range(1, self.hazard_distance)):
            with m.If(matches[d - 1] & is_row & compared.issue.accumulate):
                m.d.comb += distance.eq(d)
        m.d.comb += [
            self.act.req.valid.eq(compared_valid & is_row & space),
            self.act.req.payload.eq(compared.act[:spad_bits]),
            issues.i.valid.eq(compared_valid & space & (~is_row | self.act.req.ready)),
            issues.i.payload.eq(compared.issue),
            issues.i.payload.distance.eq(distance),
            compared_ready.eq(~compared_valid | (space & (~is_row | self.act.req.ready))),
            rows.add.eq(self.act.rsp_valid),
            rows.i.eq(self.act.rsp_data),
        ]

        issue = issues.o.payload
        take = Signal()
        m.d.comb += [
            self.o.valid.eq(issues.o.valid & (~issue.row | rows.present)),
            self.o.payload.eq(issue),
            self.row.eq(rows.o),
            take.eq(self.o.valid & self.o.ready),
            issues.o.ready.eq(take),
            rows.take.eq(take & issue.row),
            self.idle.eq((commands.level == 0) & ~nest.valid & ~checked_valid & ~compared_valid),
        ]
        return m
