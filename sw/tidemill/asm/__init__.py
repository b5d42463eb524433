"""Assembly language: text to programs and back."""

from tidemill.asm.assembler import assemble, assemble_file
from tidemill.asm.diagnostics import AsmError, Diagnostic
from tidemill.asm.disassembler import disassemble, format_instruction

__all__ = ["AsmError", "Diagnostic", "assemble", "assemble_file", "disassemble", "format_instruction"]
