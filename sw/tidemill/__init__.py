"""Tidemill: an open NPU and everything around it."""

from tidemill.asm import AsmError, assemble, assemble_file
from tidemill.builder import BuildError, ProgramBuilder, acc, spad
from tidemill.compiler.ir import ModelError
from tidemill.compiler.ports import InputError
from tidemill.compiler.report import Report
from tidemill.compiler.runtime import Call
from tidemill.config import PRESETS, Config, ConfigError, preset
from tidemill.driver.buffers import Buffer
from tidemill.driver.device import Device
from tidemill.driver.errors import (
    BufferMismatch,
    DeviceError,
    HardwareError,
    OutOfMemory,
    ProgramMismatch,
    Timeout,
)
from tidemill.driver.npu import LoadedProgram, Npu, Result
from tidemill.driver.npu import open_npu as open
from tidemill.model import Model, compile, load_model
from tidemill.ops.conv import conv2d, depthwise_conv2d, fully_connected, matmul
from tidemill.ops.elementwise import activation, add, maximum, minimum, mul, relu, softmax, sub, table
from tidemill.ops.gemm import GemmRun, gemm, run_gemm
from tidemill.ops.move import concat, move, pad, transpose
from tidemill.ops.pool import average_pool2d, max_pool2d, pool2d
from tidemill.ops.requant import Requant
from tidemill.program import Program
from tidemill.program_file import ProgramFileError
from tidemill.program_file import load as load_program
from tidemill.program_file import save as save_program

__all__ = [
    "PRESETS",
    "AsmError",
    "Buffer",
    "BufferMismatch",
    "BuildError",
    "Call",
    "Config",
    "ConfigError",
    "Device",
    "DeviceError",
    "GemmRun",
    "HardwareError",
    "InputError",
    "LoadedProgram",
    "Model",
    "ModelError",
    "Npu",
    "OutOfMemory",
    "Program",
    "ProgramBuilder",
    "ProgramFileError",
    "ProgramMismatch",
    "Report",
    "Requant",
    "Result",
    "Timeout",
    "acc",
    "activation",
    "add",
    "assemble",
    "assemble_file",
    "average_pool2d",
    "compile",
    "concat",
    "conv2d",
    "depthwise_conv2d",
    "fully_connected",
    "gemm",
    "load_model",
    "load_program",
    "matmul",
    "max_pool2d",
    "maximum",
    "minimum",
    "move",
    "mul",
    "open",
    "pad",
    "pool2d",
    "preset",
    "relu",
    "run_gemm",
    "save_program",
    "softmax",
    "spad",
    "sub",
    "table",
    "transpose",
]
