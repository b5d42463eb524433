"""Coverage cannot lie: what is not hit is a hole, what is not planned is an error, what is excluded has a reason."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from click.testing import CliRunner

from tidemill import isa
from tidemill_verif import elaborate
from tidemill_verif.coverage import code, collect, isa_bins, report, results
from tidemill_verif.coverage.__main__ import main
from tidemill_verif.coverage.code import LINE, TOGGLE, CodePoint, VerilogSource
from tidemill_verif.coverage.plan import BLOCKS, FILES, PLAN, WITHOUT_POINTS, block_of
from tidemill_verif.coverage.point import Point
from tidemill_verif.coverage.results import CoverageError, Exclusion, Results, Tally
from tidemill_verif.toolchain import verilator_bin

ROOT = Path(__file__).parents[2]
POINT = "prims.sides"


def full_hits() -> Counter[tuple[str, str]]:
    """Every bin of the plan once."""
    return Counter((point.name, name) for point in PLAN.values() for name in point.bins)


def test_everything_hit_is_full_coverage() -> None:
    found = Results(functional=full_hits())
    for block, points in BLOCKS.items():
        assert found.functional_holes(block) == {}
        total = sum(len(point.bins) for point in points)
        assert found.tally(block, "functional") == Tally(total, total, 0)


@pytest.mark.parametrize("point", PLAN)
def test_a_bin_that_is_never_hit_is_a_hole(point: str) -> None:
    name = PLAN[point].bins[-1]
    hits = full_hits()
    del hits[point, name]
    found = Results(functional=hits)
    assert found.functional_holes(PLAN[point].block) == {point: [name]}
    assert f"- `{point}`: {name}\n" in report.page(found)
    assert any(line.startswith(f"{PLAN[point].block}: functional 9") for line in found.below_target())


def test_a_new_field_opens_a_hole() -> None:
    op = isa.BY_MNEMONIC["vx.lut"]
    wider = dataclasses.replace(op, fields=(*op.fields, isa.Field("extra", 100, 8, "a new one")))
    new = set(isa_bins.operand_bins((wider,))) - set(isa_bins.operand_bins((op,)))
    assert new == {"vx.lut.extra min", "vx.lut.extra max", "vx.lut.extra inside"}


def test_every_legal_value_has_a_planned_bin() -> None:
    for op in isa.OPS:
        for field in isa_bins.operands(op):
            for value in (field.legal_min, field.legal_max, 0, -1, 1, (field.legal_min + field.legal_max) // 2):
                if field.legal_min <= value <= field.legal_max:
                    assert isa_bins.corner(field, value) in isa_bins.corners(field), f"{op.mnemonic}.{field.name}"


def test_what_is_not_planned_is_an_error() -> None:
    collector = collect.Collector()
    for point, name in ((POINT, "sideways"), ("prims.nothing", "transfer")):
        with pytest.raises(collect.UnplannedBinError, match=r"no bin .* in the plan"):
            collector.hit(point, name)


def test_hits_of_parallel_processes_add_up(tmp_path: Path) -> None:
    for number in (1, 2):
        collector = collect.Collector()
        for _ in range(number):
            collector.hit(POINT, "idle, idle", "transfer, transfer")
        collector.save(tmp_path)
        collector.save(tmp_path)
    files = list((tmp_path / collect.FUNCTIONAL).glob("*.json"))
    assert sorted(json.loads(file.read_text())[POINT]["idle, idle"] for file in files) == [1, 2]


def test_nothing_is_collected_unless_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(collect.VARIABLE, raising=False)
    monkeypatch.setattr(collect, "_COLLECTOR", None)
    collect.hit("no point", "no bin")
    assert not collect.wanted()


class Doubler(wiring.Component):
    """A design with a branch that needs `up`, a choice, and a helper signal."""

    def __init__(self) -> None:
        super().__init__({"up": In(1), "value": In(unsigned(4)), "count": Out(unsigned(4))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        seen = Signal()
        with m.If(self.up):
            m.d.sync += [self.count.eq(self.count + 1), seen.eq(1)]
        with m.Else():
            m.d.sync += self.count.eq(Mux(seen, self.value, 0))
        return m


@pytest.fixture
def doubler(monkeypatch: pytest.MonkeyPatch) -> VerilogSource:
    """Positions of `Doubler`, taken for hardware."""
    monkeypatch.setattr(code, "_HDL", f"/{Path(__file__).parent.name}/")
    return VerilogSource(elaborate.verilog_file(Doubler(), positions=True).read_text())


def _entry(page: str, line: int, what: str, count: int) -> str:
    fields = {"f": "top.v", "l": line, "page": f"{page}/top", "o": what}
    return "C '" + "".join(f"\x01{key}\x02{value}" for key, value in fields.items()) + f"' {count}"


def _line_of(text: str) -> str:
    """`file:line` of the line of this file that contains `text`."""
    lines = Path(__file__).read_text().splitlines()
    return f"{Path(__file__).name}:{next(number for number, line in enumerate(lines, 1) if text in line)}"


def test_branches_have_the_lines_of_python(doubler: VerilogSource) -> None:
    module = doubler.modules["top"]
    assert doubler.owners["top"] == Path(__file__).name
    branch, otherwise = _line_of("with m.If(self" + ".up)"), _line_of("self.count.eq(Mux(se" + "en")
    assert (branch, "count") in module.then.values()
    assert (otherwise, "count") in module.otherwise.values()
    assert (branch, "seen, not taken") in module.otherwise.values()
    assert otherwise in {place for place, _ in module.choices.values()}
    assert module.wires["seen"] == _line_of("seen = Sig" + "nal()")


def test_a_branch_never_taken_is_a_hole(doubler: VerilogSource) -> None:
    line = next(line for line, way in doubler.modules["top"].then.items() if way[1] == "count")
    for count in (0, 3):
        data = "\n".join((_entry("v_branch", line, "if", count), _entry("v_branch", line, "else", 7)))
        points = dict(code.read(data, doubler))
        assert sorted((point.what, hit) for point, hit in points.items()) == [("count", count > 0), ("count", True)]


def test_a_point_is_hit_if_any_instance_or_run_hits_it(doubler: VerilogSource) -> None:
    rises, falls = (_entry("v_toggle", 1, f"count[3]:{edge}", 0) for edge in ("0->1", "1->0"))
    hit = _entry("v_toggle", 1, "count[3]:0->1", 4)
    points = code.merge(code.read("\n".join((rises, falls, hit, rises)), doubler))
    assert {point.what: hit for point, hit in points.items()} == {"count[3] rises": True, "count[3] falls": False}


def test_numbers_that_a_build_gives_do_not_tell_signals_apart() -> None:
    def points(*numbers: int) -> list[str]:
        names = [f"a${number}.b" for number in numbers]
        wires = "".join(f'(* src = "/x/tidemill_hdl/sync.py:9" *)\n  wire \\{name} ;\n' for name in ("a.b", *names))
        text = f'(* src = "/x/tidemill_hdl/sync.py:7" *)\nmodule top(a);\n{wires}endmodule\n'
        data = "\n".join(_entry("v_toggle", 1, f"{name}:0->1", 1) for name in ("a.b", *names))
        return sorted(point.what for point, _ in code.read(data, VerilogSource(text)))

    assert points(90, 117) == points(7, 1012) == ["a$1.b rises", "a$2.b rises", "a.b rises"]


def test_a_change_of_a_wide_signal_counts_for_its_own_bit_only(tmp_path: Path) -> None:
    (tmp_path / "main.cpp").write_text("""
        #include <cstdio>
        #include "verilated_cov.h"
        int main() {
            uint32_t counts[2 * 100] = {};
            VlWide<4> before{}, after{};
            before[1] = 1u << 3;
            after[0] = 1;
            after[3] = 1u << 2;
            VL_COV_TOGGLE_CHG_ST_W(100, counts, after, before);
            for (int i = 0; i < 200; ++i)
                if (counts[i]) std::printf("%d%c=%u ", i / 2, i % 2 ? 'r' : 'f', counts[i]);
        }
        #include "verilated.cpp"
        #include "verilated_threads.cpp"
    """)
    include = verilator_bin().parent / "share" / "verilator" / "include"
    flags = collect.VERILATOR_FLAGS[-1].split()
    command = ["g++", "-std=c++20", "-O0", *flags, f"-I{include}", f"-I{include}/vltstd", "main.cpp", "-o", "main"]
    subprocess.run([*command, "-pthread"], cwd=tmp_path, check=True, capture_output=True)
    assert subprocess.run([tmp_path / "main"], check=True, capture_output=True).stdout == b"0r=1 35f=1 98r=1 "


def test_unnamed_and_foreign_signals_are_no_points(doubler: VerilogSource) -> None:
    foreign = _entry("v_toggle", 1, "x:0->1", 1).replace("/top", "/y")
    data = "\n".join((_entry("v_toggle", 1, "__024123[0]:0->1", 1), foreign))
    assert list(code.read(data, doubler)) == []


def test_a_build_of_another_checkout_counts() -> None:
    text = (
        '(* src = "/elsewhere/hdl/tidemill_hdl/sync.py:7" *)\nmodule top(a);\n'
        '(* src = "/elsewhere/hdl/tidemill_hdl/sync.py:9|-" *)\n  wire [1:0] a;\nendmodule\n'
    )
    points = dict(code.read(_entry("v_toggle", 1, "a[1]:0->1", 1), VerilogSource(text)))
    assert points == {CodePoint("sync.py", TOGGLE, "sync.py:9", "a[1] rises"): True}


def _code(*points: tuple[str, str, bool]) -> dict[CodePoint, bool]:
    return {CodePoint("sync.py", kind, "sync.py:1", what): hit for kind, what, hit in points}


def test_exclusions_count_only_where_they_are_needed() -> None:
    unreachable = Exclusion(TOGGLE, "sync.py", ("count[3:2]",), "never counts to eight")
    stale = Exclusion(LINE, "sync.py", ("head*",), "not needed")
    points = _code((TOGGLE, "count[3] rises", False), (TOGGLE, "count[2] rises", True), (LINE, "head", True))
    found = Results(code=points, exclusions=[unreachable, stale])
    assert found.tally("sync", TOGGLE) == Tally(2, 1, 1)
    assert found.tally("sync", LINE) == Tally(1, 1, 0)
    assert found.code_holes("sync", TOGGLE) == []
    assert found.stale_exclusions() == [stale]
    assert "`count[3:2]` (1): never counts to eight" in report.page(found)
    wide = dataclasses.replace(unreachable, what=("count[3]", "gone"))
    assert Results(code=points, exclusions=[wide]).stale_exclusions() == [dataclasses.replace(wide, what=("gone",))]


@pytest.mark.parametrize(
    ("pattern", "covered"),
    [
        ("a[7:4]", {"a[4] rises", "a[7] falls"}),
        ("a[8, 3] rises", {"a[8] rises"}),
        ("a*", {"a[4] rises", "a[7] falls", "a[8] rises", "a[3] falls", "a.b rises", "a[1][4] rises"}),
        ("a[1][4]", {"a[1][4] rises"}),
        ("a.b falls", set()),
        ("?.b", {"a.b rises"}),
    ],
)
def test_an_exclusion_names_signals_as_the_report_does(pattern: str, covered: set[str]) -> None:
    found = {"a[4] rises", "a[7] falls", "a[8] rises", "a[3] falls", "a.b rises", "a[1][4] rises", "c[4] rises"}
    exclusion = Exclusion(TOGGLE, "sync.py", (pattern,), "a reason")
    assert {what for what in found if exclusion.covers(what)} == covered


def test_a_block_without_branches_has_all_its_lines_only_if_it_was_measured() -> None:
    assert Results().percent("npu", LINE) == 0
    measured = Results(code={CodePoint("top.py", TOGGLE, "top.py:1", "irq rises"): True})
    assert measured.percent("npu", LINE) == 100
    assert measured.percent("npu", TOGGLE) == 100


def test_signals_are_listed_with_their_bits() -> None:
    points = [CodePoint("f", TOGGLE, "f:1", f"a[{bit}] {edge}") for bit in (0, 2, 3) for edge in ("rises", "falls")]
    points += [CodePoint("f", TOGGLE, "f:1", "b rises")]
    assert report.signals(points) == ["`a[0, 3:2]`", "`b` rises"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[[toggle]]\nwhere = "sync.py"\nwhat = ["x"]\n', "has no reason"),
        ('[[functional]]\nwhere = "sync.nothing"\nwhat = ["x"]\nreason = "r"\n', "no cover point"),
        ('[[lines]]\nwhere = "sync.py"\nwhat = ["x"]\nreason = "r"\n', "'lines' is not one of"),
    ],
)
def test_wrong_exclusions_are_refused(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "exclusions.toml"
    file.write_text(text)
    with pytest.raises(CoverageError, match=said):
        results.read_exclusions(file)


def test_every_exclusion_has_a_reason_and_every_file_a_block() -> None:
    assert all(len(exclusion.reason) > 10 for exclusion in results.read_exclusions())
    for file in (ROOT / "hdl/tidemill_hdl").rglob("*.py"):
        path = file.relative_to(ROOT / "hdl/tidemill_hdl").as_posix()
        if "class " in file.read_text() and path not in ("interfaces.py",):
            assert path.startswith(WITHOUT_POINTS) or block_of(path) in BLOCKS


def test_points_have_reasons_and_bins() -> None:
    assert all(len(point.reason) > 10 for point in PLAN.values())
    with pytest.raises(ValueError, match="bins, each once"):
        Point("prims.twice", "a reason", ("a", "a"))


def test_the_plan_page_is_the_plan() -> None:
    assert (ROOT / "docs/verification/coverage-plan.md").read_text() == report.plan_page()


def test_a_folder_without_data_is_one_clear_error(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["--reuse", "--folder", str(tmp_path / "none")])
    assert result.exit_code == 1
    assert result.output.startswith("Error: no coverage was collected in ")


def test_the_command_fails_below_the_targets_and_with_stale_exclusions(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def run(found: Results) -> tuple[int, str]:
        monkeypatch.setattr("tidemill_verif.coverage.__main__.read", lambda folder, exclusions: found)
        result = CliRunner().invoke(main, ["--reuse", "--folder", str(tmp_path), "--page", str(tmp_path / "page.md")])
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return result.exit_code, result.output

    def points(missing: int) -> dict[CodePoint, bool]:
        return {
            CodePoint(files[0], kind, f"{files[0]}:1", f"a[{bit}] rises"): bit >= missing
            for files in FILES.values()
            for kind in (LINE, TOGGLE)
            for bit in range(100)
        }

    assert run(Results(functional=full_hits(), code=points(2)))[0] == 0
    code_, said = run(Results(functional=full_hits(), code=points(11)))
    assert code_ == 1
    assert all(f"{block}: line 89.00%, target 98%" in said for block in BLOCKS)
    assert all(f"{block}: toggle 89.00%, target 90%" in said for block in BLOCKS)
    hits = full_hits()
    del hits["prims.reset", "while holding"]
    code_, said = run(Results(functional=hits, code=points(0)))
    assert (code_, "prims: functional 97.83%, target 100%" in said) == (1, True)
    stale = Exclusion(TOGGLE, "sync.py", ("nothing",), "no reason at all")
    code_, said = run(Results(functional=full_hits(), code=points(0), exclusions=[stale]))
    assert (code_, "nothing needs it" in said) == (1, True)


def test_a_bench_without_a_stimulus_leaves_its_hole(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The sampler of the address generator, fed with the bench's kinds of walks, and without the extreme strides."""
    from tidemill_verif.coverage.sampling import prims

    def walk(strides: list[int]) -> set[str]:
        collector = collect.Collector()
        monkeypatch.setattr(prims, "hit", collector.hit)
        for stride in strides:
            prims.nest_walk([2], [4], [0], [6], [[stride]], 5)
        collector.save(tmp_path / str(len(strides)))
        (file,) = (tmp_path / str(len(strides)) / collect.FUNCTIONAL).iterdir()
        return set(json.loads(file.read_text())["prims.nest_stride"])

    assert walk([-16, -3, 0, 3, 15]) == set(PLAN["prims.nest_stride"].bins)
    assert walk([-3, 0, 3, 14]) == {"minus", "zero", "plus"}
