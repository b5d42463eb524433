"""`uart:` device names, and what the self-test says of a device that is broken; boards are in `tests/fpga`."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

import tidemill as tm
from tidemill.cli import main
from tidemill.driver.uart.device import Address, parse_address
from tidemill.driver.uart.errors import PortError
from tidemill.iss.device import IssDevice


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("/dev/ttyUSB0", Address("/dev/ttyUSB0", 1_000_000, 0.5)),
        ("COM3?baud=115200", Address("COM3", 115_200, 0.5)),
        ("p?baud=9600&patience=2.5", Address("p", 9600, 2.5)),
    ],
)
def test_an_address_is_a_port_and_options(text: str, address: Address) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "needs a port: uart:PORT"),
        ("p?speed=1", "unknown option 'speed'; options: baud, patience"),
        ("p?baud=fast", "baud must be 1200 to 20000000, not 'fast'"),
        ("p?baud=100", "baud must be 1200 to 20000000, not '100'"),
        ("p?patience=0", "patience must be 0.01 to 60, not '0'"),
        ("p?patience=nan", "patience must be 0.01 to 60, not 'nan'"),
        ("/no/such/port", "/no/such/port: there is no such port"),
    ],
)
def test_impossible_addresses_are_refused(text: str, message: str) -> None:
    with pytest.raises(PortError, match=message.replace("?", r"\?")):
        tm.open(f"uart:{text}", preset="tiny")


def test_a_file_is_no_port(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(PortError, match="cannot open the port"):
        tm.open(f"uart:{tmp_path / 'file'}", preset="tiny")


def test_options_of_simulated_memories_are_refused() -> None:
    with pytest.raises(tm.DeviceError, match="are for simulated devices"):
        tm.open("uart:/no/such/port", preset="tiny", read_latency=100)


def test_devices_without_a_port_refuse_one() -> None:
    with pytest.raises(tm.DeviceError, match="'iss' does not take these options"):
        tm.open("iss:/dev/ttyUSB0", preset="tiny")


def selftest(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["selftest", "--preset", "tiny", *arguments])
    return result.exit_code, result.output


def test_selftest_passes_on_the_simulator() -> None:
    code, output = selftest("--device", "iss", "--images", "2")
    assert code == 0, output
    assert "ok   digits" in output
    assert "PASS: 8 of 8 tests on iss tiny" in output


def test_selftest_names_a_stuck_memory_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    read = IssDevice.mem_read
    monkeypatch.setattr(IssDevice, "mem_read", lambda self, addr, n: bytes(b & 0xFE for b in read(self, addr, n)))
    code, output = selftest("--images", "0")
    assert code == 1
    assert "FAIL memory     memory from 0x1000:" in output
    assert "ok   registers" in output


def test_selftest_names_a_register_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    write = IssDevice.csr_write
    monkeypatch.setattr(
        IssDevice, "csr_write", lambda self, offset, value: None if offset == 0x48 else write(self, offset, value)
    )
    code, output = selftest("--images", "0")
    assert code == 1
    assert "FAIL registers  register WRITE_BASE reads 0x0, not" in output


def test_selftest_ends_with_a_message_where_there_is_no_device() -> None:
    code, output = selftest("--device", "uart:/no/such/port")
    assert code == 1
    assert "tidemill: error: /no/such/port: there is no such port" in output
