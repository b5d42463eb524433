"""Writes the tree of a random program: which instructions, and the loops around them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from random import Random

from tidemill.config import Config
from tidemill.isa import BY_MNEMONIC, OPS, SCALAR_REGISTERS, Op
from tidemill_verif.random_programs.footprint import extent
from tidemill_verif.random_programs.machine import WORD, ZERO, Affine, Frame, Knowledge, Taste
from tidemill_verif.random_programs.rules import Rules, Window, family, rule_of
from tidemill_verif.random_programs.tree import GeneratorError, Loop, Node, Tokens, size


class Writer(Rules):
    """Writes one tree; `knowledge` is what holds at its end."""

    def __init__(self, config: Config, rng: Random, taste: Taste, read: Window, write: Window) -> None:
        super().__init__(config, rng, taste, read, write)
        self._loops = 0
        rules: dict[str, Callable[[Op], bool]] = {
            "free": self._free, "scalar": self._scalar, "transfer": self._transfer, "mx.wload": self._wload,
            "mx.run": self._run, "vector": self._vector, "rows": self._rows, "setting": self._free, "loop": self._loop,
        }  # fmt: skip
        written = [(op, rule_of(op)) for op in OPS if rule_of(op) != "structure"]
        families = Counter(family(op) for op, _ in written)
        self._choices = [(rules[rule], op) for op, rule in written]
        self._weights = [taste.weights[family(op)] / families[family(op)] for op, _ in written]

    def block(self, length: int) -> list[Node]:
        """About `length` nodes, fewer where the work runs out."""
        outer, self._out = self._out, []
        for _ in range(length):
            if self.work <= 0:
                break
            if self.rng.random() < self.taste.weights["tokens"]:
                kinds = ("join", "join", "mask") if self.frames else ("join", "join", "spread", "mask", "pile")
                self._out.append(Tokens(self.rng.choice(kinds)))
                continue
            rule, op = self.rng.choices(self._choices, self._weights)[0]
            rule(op)
        written, self._out = self._out, outer
        return written

    # ---- loops

    def _loop(self, op: Op) -> bool:
        rng = self.rng
        if len(self.frames) >= self.config.loop_depth:
            return False
        room = self.config.ibuf_depth // 3
        kind = rng.random()
        most = max(1, int(self.work / max(1, self._times()) / 12))
        trips = 0 if kind < 0.06 else min(most, rng.choice((1, 2, 2, 3, 3, 4, 5, rng.randint(1, 12), 30)))
        number, value = self._count_register()
        least = trips
        if value.steps and trips:
            low, high = extent(self._loop_dims(value, 16))
            if high - low > 8:
                number, value = 0, ZERO
            else:
                first = max(trips, -low)
                least, trips = first + low, first + high
                values = {"count": (first - value.base) % (1 << 16), "rs": number, "length": 1}
        if not value.steps:
            values = {"count": (trips - value.base) % (1 << 16), "rs": number, "length": 1}
        elif not trips:
            return False
        before = self.knowledge.copy()
        self._loops += 1
        frame = Frame(self._loops, max(1, trips))
        self._enter(frame, moving=least == trips)
        body = self.block(rng.randint(1, max(2, min(9, room // (2 + len(self.frames))))))
        body += self._leave(frame, before)
        if not self.frames and size(body) > self.config.ibuf_depth // 2:
            self.knowledge = before
            return False
        self._after(frame, before, least, trips)
        missing = [field.name for field in op.fields if field.name not in values]
        if missing:
            raise GeneratorError(
                f"no rule for field {missing[0]!r} of {op.mnemonic!r}: teach random_programs/writer.py"
            )
        self._out.append(Loop(values, least, trips, body))
        return True

    def _count_register(self) -> tuple[int, Affine]:
        if self.rng.random() < 0.5:
            return 0, ZERO
        number = self.rng.randrange(SCALAR_REGISTERS)
        value = self.knowledge.registers[number]
        return (0, ZERO) if value is None else (number, value)

    def _enter(self, frame: Frame, moving: bool) -> None:
        """Decide what the loop keeps, moves and leaves free; what is free is unknown in its body."""
        rng, knowledge = self.rng, self.knowledge
        taken = {number for outer in self.frames for number in outer.kept_registers}
        steps = self.config.axi_bytes
        for number in range(1, SCALAR_REGISTERS):
            value = knowledge.registers[number]
            kind = rng.random()
            if number in taken or (value is not None and kind < 0.35):
                frame.kept_registers.add(number)
            elif value is not None and moving and kind < 0.7:
                frame.moving[number] = rng.choice(
                    (1, -1, 2, 4, steps, -steps, 8 * steps, 64, 4096, -4096, rng.randint(-64, 64), (1 << 16) + 1)
                )
            elif any(number in outer.moving for outer in self.frames):
                frame.kept_registers.add(number)
            else:
                knowledge.registers[number] = None
        for mnemonic, known in knowledge.settings.items():
            if known is not None and rng.random() < 0.5:
                frame.kept_settings.add(mnemonic)
            elif not self._kept(mnemonic):
                knowledge.settings[mnemonic] = None
        self.frames.append(frame)
        for number, step in frame.moving.items():
            value = knowledge.registers[number]
            assert value is not None
            knowledge.registers[number] = value.plus(Affine(0, ((frame.number, step % WORD),)))

    def _leave(self, frame: Frame, before: Knowledge) -> list[Node]:
        """What makes the end of an iteration the start of the next: moving registers, pending weights."""
        knowledge = self.knowledge
        outer, self._out = self._out, []
        addi = BY_MNEMONIC["addi"]
        for number, step in frame.moving.items():
            entry, now = before.registers[number], knowledge.registers[number]
            assert entry is not None
            assert now is not None
            difference = entry.plus(Affine(step % WORD, ((frame.number, step % WORD),))).plus(now, -1)
            assert not difference.steps, "a moving register left its path"
            half = WORD // 2
            self._emit(addi, {"rd": number, "rs": number, "imm": (difference.base + half) % WORD - half})
            knowledge.registers[number] = now.plus(Affine(difference.base))
        if knowledge.pending and not before.pending:
            if not self._matrix_run(BY_MNEMONIC["mx.run"], 1, 1):
                for name in ("mx.act", "mx.acc"):
                    self._set(name, {field.name: field.default or 0 for field in BY_MNEMONIC[name].fields})
                    self.work = max(self.work, 2.0 * self._times())
                whole, self.taste = self.taste, replace(self.taste, registers=0.0, reconfigure=0.0)
                written = self._matrix_run(BY_MNEMONIC["mx.run"], 1, 1)
                self.taste = whole
                assert written, "weights are left over"
        elif before.pending and not knowledge.pending:
            written = False
            while not written:
                written = self._wload(BY_MNEMONIC["mx.wload"])
        added, self._out = self._out, outer
        self.frames.pop()
        return added

    def _after(self, frame: Frame, before: Knowledge, least: int, most: int) -> None:
        knowledge = self.knowledge
        if most == 0:
            self.knowledge = before
            return
        for number in range(1, SCALAR_REGISTERS):
            if number in frame.moving:
                entry = before.registers[number]
                assert entry is not None
                knowledge.registers[number] = entry.plus(Affine(frame.moving[number] * most % WORD))
            elif number not in frame.kept_registers:
                knowledge.registers[number] = None
        if least == 0:
            for mnemonic, known in before.settings.items():
                if knowledge.settings[mnemonic] != known:
                    knowledge.settings[mnemonic] = None
