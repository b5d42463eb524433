"""How each instruction of a random program is written: one rule an instruction or family, legal by itself.

Rules are found by what the instruction table says of an instruction. One that no rule covers, or a field that its rule
does not know, raises `GeneratorError`; so a new vector operation or configuration field is generated without a change
here, and nothing new is left out in silence.
"""

from __future__ import annotations

from random import Random

from tidemill.config import Config
from tidemill.isa import ACC_SPACE, BY_MNEMONIC, SCALAR_REGISTERS, Engine, Op, Post
from tidemill.operands import REQUIRED_SPACE, space_rows
from tidemill_verif.random_programs import corners
from tidemill_verif.random_programs.case import PARAMETERS_AT, PARAMETERS_EVERY
from tidemill_verif.random_programs.footprint import Agent, Dims, Footprint, dram_bits, engine_of, extent, nest_bits
from tidemill_verif.random_programs.machine import WORD, ZERO, Affine, Frame, Knowledge, Place, Taste
from tidemill_verif.random_programs.tree import GeneratorError, Item, Node

Window = tuple[int, int]

LINE_OPS = {"ld.run": ("ld.stride", "ld.dst"), "st.run": ("st.stride", "st.src")}
"""Transfers and the settings that they follow."""
GEOMETRY = (*LINE_OPS["ld.run"], *LINE_OPS["st.run"], "mx.act", "mx.acc", "vx.dims", "vx.astride", "vx.bstride")
"""Settings that the rules of the instructions that follow them write as well."""
WORK = 6000
"""Row movements a program may cost, about."""


def rule_of(op: Op) -> str:
    """Name of the rule that writes `op`. Raises `GeneratorError` where there is none."""
    names = {field.name for field in op.fields}
    if op.mnemonic in ("halt", "endloop", "loop"):
        return "loop" if op.mnemonic == "loop" else "structure"
    if op.engine is Engine.CONTROL:
        if op.mnemonic in ("nop", "irq", "fence"):
            return "free"
        if names in ({"rd", "rs", "imm"}, {"rd", "rs", "rt"}, {"rd", "rs", "amount"}):
            return "scalar"
    elif op.mnemonic.endswith(".sync"):
        return "free"
    elif op.mnemonic in LINE_OPS:
        return "transfer"
    elif op.mnemonic in ("mx.wload", "mx.run"):
        return op.mnemonic
    elif "post" in names and op.combine is not None:
        return "vector"
    elif op.mnemonic in ("vx.param", "vx.lut"):
        return "rows"
    elif op.fields and all(field.default is not None and field.index is None for field in op.fields):
        return "setting"
    raise GeneratorError(f"no rule writes the instruction {op.mnemonic!r}: teach random_programs/rules.py")


def family(op: Op) -> str:
    """The name of an instruction's weight in `Taste.weights`. Raises `GeneratorError`."""
    rule = rule_of(op)
    if rule == "transfer" or rule.startswith("mx."):
        return op.mnemonic
    if rule == "free" and op.engine is not Engine.CONTROL:
        return "sync"
    return "stray" if op.mnemonic in GEOMETRY else rule


FAMILIES = (
    "free",
    "sync",
    "scalar",
    "ld.run",
    "st.run",
    "mx.wload",
    "mx.run",
    "vector",
    "rows",
    "setting",
    "stray",
    "loop",
)
"""Names of weights, with `tokens`; `stray` are settings of strides and counts for no instruction in particular."""


class Rules:
    """Each rule appends its instruction, and the settings that it needs, to what is being written.

    It returns False where it writes no instruction (settings may have been written): the choice was not legal here.
    """

    def __init__(self, config: Config, rng: Random, taste: Taste, read: Window, write: Window) -> None:
        self.config, self.rng, self.taste = config, rng, taste
        self.windows = {"ld.run": read, "st.run": write}
        self.place = Place(config, rng, taste)
        self.knowledge = Knowledge.at_start()
        self.frames: list[Frame] = []
        self.work = float(WORK)
        self._out: list[Node] = []

    # ---- helpers

    def _emit(self, op: Op, values: dict[str, int], footprint: Footprint | None = None, work: float = 1) -> bool:
        missing = [field.name for field in op.fields if field.name not in values]
        if missing:
            raise GeneratorError(f"no rule for field {missing[0]!r} of {op.mnemonic!r}: teach random_programs/rules.py")
        agent = None
        if op.engine is not Engine.CONTROL:
            agent = Agent.WLOAD if op.mnemonic == "mx.wload" else Agent(engine_of(op.engine))
        self._out.append(Item(op.mnemonic, values, agent, footprint or Footprint()))
        self.work -= work * self._times()
        return True

    def _times(self) -> int:
        times = 1
        for frame in self.frames:
            times *= frame.trips
        return times

    def _affordable(self, limit: int) -> int:
        """Points that one instruction may have here."""
        reach = self.taste.reach
        points = self.rng.choice((1, 2, reach, reach, reach, 4 * reach, 4 * reach, 400, 5000))
        return max(1, min(points, limit, int(self.work) // max(1, self._times())))

    def _kept(self, mnemonic: str) -> bool:
        return any(mnemonic in frame.kept_settings for frame in self.frames)

    def _set(self, mnemonic: str, values: dict[str, int]) -> None:
        self.knowledge.settings[mnemonic] = values
        self._emit(BY_MNEMONIC[mnemonic], dict(values))

    def _settings(self, mnemonic: str) -> dict[str, int] | None:
        """The settings to use; None where new ones are to be made, which the caller may do."""
        known = self.knowledge.settings[mnemonic]
        if known is not None and (self._kept(mnemonic) or self.rng.random() > self.taste.reconfigure):
            return known
        return None

    def _strides(self, op: Op, names: list[str], counts: tuple[int, ...], run: int, span: int, unit: int = 1) -> None:
        """New settings `op`: the strides `names` fit `span`, every other field is free."""
        chosen = [
            corners.stride(self.rng, n, span, unit, op.field(name)) for n, name in zip(counts, names, strict=True)
        ]
        chosen = corners.fit(counts, chosen, run, span, unit)
        limits = [op.field(name) for name in names]
        chosen = [min(max(s, f.legal_min), f.legal_max) // unit * unit for s, f in zip(chosen, limits, strict=True)]
        values = {field.name: corners.field_value(self.rng, field) for field in op.fields}
        self._set(op.mnemonic, values | dict(zip(names, chosen, strict=True)))

    def _register(self, bits: int, dims: Dims, run: int, span: int, unit: int = 1) -> tuple[int, Affine, Dims]:
        """(number, value, walk over the loops) of a register that an address of `bits` bits may add: with it the walk
        `dims` reaches over at most `span`."""
        if self.rng.random() < self.taste.registers:
            numbers = list(range(1, SCALAR_REGISTERS))
            self.rng.shuffle(numbers)
            for number in numbers:
                value = self.knowledge.registers[number]
                if value is None:
                    continue
                loops = self._loop_dims(value, bits)
                if any(step % unit for _, step in loops):
                    continue
                low, high = extent([*dims, *loops])
                if high - low + run <= span:
                    return number, value, loops
        return 0, ZERO, ()

    def _loop_dims(self, value: Affine, bits: int) -> list[tuple[int, int]]:
        trips = {frame.number: frame.trips for frame in self.frames}
        half = 1 << (bits - 1)
        return [(trips[loop], (step + half) % (1 << bits) - half) for loop, step in value.steps]

    def _local(self, op: Op, name: str, space: str, dims: Dims) -> tuple[dict[str, int], int] | None:
        """Field `name` and its register, and the rows touched; None where the walk does not fit."""
        field = op.field(name)
        depth = space_rows(self.config, space)
        number, value, loops = self._register(field.width, dims, 1, depth)
        walk = [*dims, *loops]
        low, high = extent(walk)
        if high - low >= depth:
            return None
        row = self.place.row(engine_of(op.engine), space, -low, depth - 1 - high)
        if name == "src" and rule_of(op) == "rows" and self.rng.random() < 0.8:
            near = row // PARAMETERS_EVERY * PARAMETERS_EVERY + PARAMETERS_AT
            row = near if -low <= near <= depth - 1 - high else row
        bits = (row | (ACC_SPACE if space == "acc" else 0)) - value.base
        values = {name: bits % (1 << field.width)}
        if field.index is not None:
            values[field.index] = number
        return values, nest_bits(row, walk)

    def _space(self, op: Op, name: str, acc: float = 0.5) -> str:
        return REQUIRED_SPACE.get((op.mnemonic, name)) or ("acc" if self.rng.random() < acc else "spad")

    # ---- rules; each returns whether it wrote its instruction

    def _free(self, op: Op) -> bool:
        """Every field is free; settings are refused where a loop keeps them."""
        if op.mnemonic in self.knowledge.settings and self._kept(op.mnemonic):
            return False
        values = {field.name: corners.field_value(self.rng, field) for field in op.fields}
        if op.mnemonic in self.knowledge.settings:
            self._set(op.mnemonic, values)
            return True
        return self._emit(op, values)

    def _scalar(self, op: Op) -> bool:
        rng, registers = self.rng, self.knowledge.registers
        values = {field.name: corners.field_value(rng, field) for field in op.fields}
        if "imm" in values and rng.random() < 0.6:
            values["rs"] = 0
        rd = values["rd"]
        if any(rd in frame.kept_registers for frame in self.frames) or any(rd in f.moving for f in self.frames):
            return False
        source, result = registers[values["rs"]], None
        if source is not None:
            if op.mnemonic == "addi":
                result = source.plus(Affine(values["imm"] % WORD))
            elif op.mnemonic == "slli":
                result = ZERO.plus(source, 1 << values["amount"])
            elif op.mnemonic in ("add", "sub"):
                other = registers[values["rt"]]
                if other is not None:
                    result = source.plus(other, 1 if op.mnemonic == "add" else -1)
            else:
                raise GeneratorError(f"no rule for the result of {op.mnemonic!r}: teach random_programs/rules.py")
        if rd:
            registers[rd] = result
        return self._emit(op, values)

    def _transfer(self, op: Op) -> bool:
        rng, config, load = self.rng, self.config, op.engine is Engine.LOAD
        names = LINE_OPS[op.mnemonic]
        place = "dst" if load else "src"
        space = self._space(op, place, 0.4)
        row_bytes = config.acc_row_bytes if space == "acc" else config.spad_row_bytes
        unit = 1 if load else config.axi_bytes
        window = self.windows[op.mnemonic]
        span, depth = window[1] + 1 - window[0], space_rows(config, space)
        points = self._affordable(min(depth, span // row_bytes))
        n0 = 0 if rng.random() < 0.05 else corners.count(rng, min(4095, points))
        n1 = corners.count(rng, min(1023, max(1, points // max(1, n0))))
        n2 = corners.count(rng, min(1023, max(1, points // max(1, n0 * n1))))
        nbytes = n0 * row_bytes
        local = self._settings(names[1])
        if local is None:
            setting = BY_MNEMONIC[names[1]]
            counts = (n1, n2)
            self._strides(setting, ["d1", "d2"], counts, max(1, n0), depth)
            local = self.knowledge.settings[names[1]]
            assert local is not None
            if load and rng.random() < 0.7 and not self._kept(names[1]):
                local = local | {"pad_lo": rng.choice((0, 0, 1, 3)), "pad_hi": rng.choice((0, 0, 1, 2))}
                self._out.pop()
                self._set(names[1], local)
        line = n0 + (local["pad_lo"] + local["pad_hi"] if load else 0)
        far = self._settings(names[0])
        if far is None:
            self._strides(BY_MNEMONIC[names[0]], ["s1", "s2"], (n1, n2), max(1, nbytes), span, unit)
            far = self.knowledge.settings[names[0]]
            assert far is not None
        for counts in ((n1, n2), (n1, 1), (1, 1)):
            dims = [(counts[0], local["d1"]), (counts[1], local["d2"])]
            lines = [(counts[0], far["s1"]), (counts[1], far["s2"])]
            where = self._local(op, place, space, [*dims, (line, 1)]) if line else self._anywhere(op, place)
            if where is not None and all(count == 1 or stride % unit == 0 for count, stride in lines):
                dram = self._dram(op, lines, nbytes, unit)
                if dram is not None:
                    break
        else:
            return False
        touched = Footprint()
        mine, other = (touched.writes, touched.reads) if load else (touched.reads, touched.writes)
        mine[space], other["dram"] = where[1], dram[1]
        if counts[0] * counts[1] * line * self._times() > max(self.work, 600):
            return False
        values = where[0] | dram[0] | {"n0": n0, "n1": counts[0], "n2": counts[1]}
        return self._emit(op, values, touched, 4 + counts[0] * counts[1] * (2 + max(line, nbytes / config.axi_bytes)))

    def _anywhere(self, op: Op, name: str) -> tuple[dict[str, int], int]:
        """Any address, for what touches nothing."""
        field = op.field(name)
        values = {name: corners.field_value(self.rng, field)}
        if field.index is not None:
            values[field.index] = self.rng.randrange(SCALAR_REGISTERS)
        return values, 0

    def _dram(self, op: Op, lines: Dims, nbytes: int, unit: int) -> tuple[dict[str, int], int] | None:
        if nbytes == 0:
            return self._anywhere(op, "dram")
        field, window = op.field("dram"), self.windows[op.mnemonic]
        number, value, loops = self._register(field.width, lines, nbytes, window[1] + 1 - window[0], unit)
        walk = [*lines, *loops]
        base = self.place.byte(window, walk, nbytes, unit)
        if base is None:
            return None
        assert field.index is not None
        values = {"dram": (base - value.base) % WORD, field.index: number}
        return values, dram_bits(base, walk, nbytes, self.config.axi_bytes)

    def _wload(self, op: Op) -> bool:
        if self.knowledge.pending or (self.frames and (self._kept("mx.act") or self._kept("mx.acc"))):
            return False
        depth = self.config.spad_rows
        rows = self.config.rows
        step = corners.stride(self.rng, rows, depth, 1, op.field("stride"))
        step = corners.fit((rows,), [step], 1, depth, 1)[0]
        where = self._local(op, "src", "spad", [(rows, step)])
        if where is None:
            return False
        self.knowledge.pending = True
        return self._emit(op, where[0] | {"stride": step}, Footprint(reads={"spad": where[1]}), rows)

    def _run(self, op: Op) -> bool:
        rng = self.rng
        swap = int(self.knowledge.pending and rng.random() < 0.8)
        if swap and self.frames and (self._kept("mx.act") or self._kept("mx.acc")):
            return False
        if not swap and rng.random() < 0.6:
            return False
        return self._matrix_run(op, swap)

    def _matrix_run(self, op: Op, swap: int, points: int = 0) -> bool:
        rng, config = self.rng, self.config
        act = self._settings("mx.act")
        if act is None:
            limit = points or max(self._affordable(5000), self._affordable(5000))
            n0 = corners.count(rng, min(4095, limit))
            n1 = corners.count(rng, min(4095, max(1, limit // n0)))
            counts = (n0, n1, corners.count(rng, min(4095, max(1, limit // (n0 * n1)))))
            setting = BY_MNEMONIC["mx.act"]
            self._strides(setting, ["s0", "s1", "s2"], counts, 1, config.spad_rows)
            act = self.knowledge.settings["mx.act"]
            assert act is not None
            act = act | dict(zip(("n0", "n1", "n2"), counts, strict=True))
            self._out.pop()
            self._set("mx.act", act)
        counts = (act["n0"], act["n1"], act["n2"])
        total = counts[0] * counts[1] * counts[2]
        if total * self._times() > max(self.work, 100):
            return False
        acc = self._settings("mx.acc")
        if acc is None:
            self._strides(BY_MNEMONIC["mx.acc"], ["t0", "t1", "t2"], counts, 1, config.acc_rows)
            acc = self.knowledge.settings["mx.acc"]
            assert acc is not None
        sources = self._local(op, "act", "spad", [(n, act[f"s{k}"]) for k, n in enumerate(counts)])
        targets = self._local(op, "acc", "acc", [(n, acc[f"t{k}"]) for k, n in enumerate(counts)])
        if sources is None or targets is None:
            return False
        if swap:
            self.knowledge.pending = False
        values = sources[0] | targets[0] | {"accumulate": rng.randrange(2), "swap": swap}
        touched = Footprint(reads={"spad": sources[1], "acc": targets[1]}, writes={"acc": targets[1]})
        return self._emit(op, values, touched, total + 8)

    def _rows(self, op: Op) -> bool:
        """`vx.param` and `vx.lut`: consecutive accumulator rows."""
        rows = 3 if op.mnemonic == "vx.param" else max(1, 256 // self.config.cols)
        where = self._local(op, "src", "acc", [(rows, 1)])
        if where is None or (rows > 3 and self.work < 500 * self._times()):
            return False
        return self._emit(op, where[0], Footprint(reads={"acc": where[1]}), 40 if rows == 3 else 280)

    def _vector(self, op: Op) -> bool:
        rng, config = self.rng, self.config
        in_place = rng.random() < 0.2
        spaces = {name: self._space(op, name) for name in ("a", "b", "dst")}
        if in_place:
            spaces["dst"] = spaces["a"]
        dims = self._settings("vx.dims")
        names = ("n0", "n1", "k0", "k1")
        if dims is None:
            limit = self._affordable(5000)
            n0 = corners.count(rng, min(4095, limit))
            n1 = corners.count(rng, min(4095, max(1, limit // n0)))
            k0 = 1 if in_place else corners.count(rng, min(1023, max(1, limit // (n0 * n1))))
            k1 = 1 if in_place else corners.count(rng, min(1023, max(1, limit // (n0 * n1 * k0))))
            depth = space_rows(config, spaces["dst"])
            self._strides(BY_MNEMONIC["vx.dims"], ["d0", "d1"], (n0, n1), 1, depth)
            dims = self.knowledge.settings["vx.dims"]
            assert dims is not None
            dims = dims | dict(zip(names, (n0, n1, k0, k1), strict=True))
            self._out.pop()
            self._set("vx.dims", dims)
        counts = (dims["n0"], dims["n1"], dims["k0"], dims["k1"])
        points = counts[0] * counts[1] * counts[2] * counts[3]
        post = int(Post.RQ) if rng.random() < 0.3 else corners.field_value(rng, op.field("post"))
        lanes = config.cols // config.requant_lanes
        cost = max(points, counts[0] * counts[1] * lanes if post else 0) + 40
        if cost * self._times() > max(self.work, 200):
            return False
        if post == Post.RQ and rng.random() < 0.6:
            self._rows(BY_MNEMONIC["vx.param"])
            self._free(BY_MNEMONIC["vx.quant"])
        walks = {}
        immediate = rng.random() < 0.3
        for name in ("a", "b"):
            setting = BY_MNEMONIC[f"vx.{name}stride"]
            known = self._settings(setting.mnemonic)
            if known is None and not (name == "b" and immediate):
                self._strides(setting, list(names), counts, 1, space_rows(config, spaces[name]))
                known = self.knowledge.settings[setting.mnemonic]
                if in_place and name == "a":
                    assert known is not None
                    known = known | {"n0": dims["d0"], "n1": dims["d1"]}
                    self._out.pop()
                    self._set(setting.mnemonic, known)
            walks[name] = [] if known is None else [(n, known[key]) for n, key in zip(counts, names, strict=True)]
        values = {"b_imm": int(immediate), "post": post}
        touched = Footprint()
        taken: dict[str, int] = {}
        found: dict[str, tuple[dict[str, int], int]] = {}
        for name in ("a",) if immediate else ("a", "b"):
            where = self._local(op, name, spaces[name], walks[name])
            if where is None:
                return False
            values |= where[0]
            found[name] = where
            taken[spaces[name]] = taken.get(spaces[name], 0) | where[1]
        if immediate:
            field = op.field("b")
            number, value, _ = self._register(field.width, (), 1, 1)
            assert field.index is not None
            half = 1 << (field.width - 1)
            chosen = corners.number(rng, -half, half - 1) - value.base
            values["b"] = (chosen + half) % (2 * half) - half
            values[field.index] = number
        target = self._destination(op, spaces, dims, walks, counts, found, taken)
        if target is None:
            return False
        touched.reads = taken
        touched.writes = {spaces["dst"]: target[1]}
        return self._emit(op, values | target[0], touched, cost)

    def _destination(
        self,
        op: Op,
        spaces: dict[str, str],
        dims: dict[str, int],
        walks: dict[str, list[tuple[int, int]]],
        counts: tuple[int, ...],
        found: dict[str, tuple[dict[str, int], int]],
        taken: dict[str, int],
    ) -> tuple[dict[str, int], int] | None:
        """Rows apart from the operands', or exactly operand A's."""
        space = spaces["dst"]
        walk = [(counts[0], dims["d0"]), (counts[1], dims["d1"])]
        single = counts[2] == counts[3] == 1
        same = (
            single
            and spaces["a"] == space
            and all(n == 1 or s == t for (n, s), (_, t) in zip(walks["a"][:2], walk, strict=True))
        )
        if same and nest_bits(1 << 16, walk).bit_count() == counts[0] * counts[1] and self.rng.random() < 0.7:
            others = found["b"][1] if "b" in found and spaces["b"] == space else 0
            loops = self._loop_dims(self._value(op, found["a"][0], "a"), 16)
            if not others & found["a"][1] and not loops:
                target, operand = op.field("dst"), op.field("a")
                assert target.index is not None
                assert operand.index is not None
                values, bits = found["a"]
                return {"dst": values["a"], target.index: values[operand.index]}, bits
        for _ in range(6):
            where = self._local(op, "dst", space, walk)
            if where is None:
                return None
            if not where[1] & taken.get(space, 0):
                return where
        return None

    def _value(self, op: Op, values: dict[str, int], name: str) -> Affine:
        index = op.field(name).index
        assert index is not None
        return self.knowledge.registers[values[index]] or ZERO
