"""Front ends: model files to graphs."""

from __future__ import annotations

from pathlib import Path

from tidemill.compiler.frontends.report import NodeReport
from tidemill.compiler.ir import Graph, ModelError

__all__ = ["NodeReport", "inspect_model", "load_model"]


def load_model(path: str | Path) -> Graph:
    """The graph of the model file `path`. Raises ModelError for a file or model that cannot be compiled."""
    kind, data = _read(Path(path))
    if kind == "tflite":
        from tidemill.compiler.frontends.tflite import load_tflite

        return load_tflite(data, str(path))
    from tidemill.compiler.frontends.onnx import load_onnx

    return load_onnx(data, str(path), folder=Path(path).parent)


def inspect_model(path: str | Path) -> list[NodeReport]:
    """Where each node of the model file `path` would run, also for nodes that cannot.

    Raises ModelError for a file that is not a model.
    """
    kind, data = _read(Path(path))
    if kind == "tflite":
        from tidemill.compiler.frontends.tflite import inspect_tflite

        return inspect_tflite(data, str(path))
    from tidemill.compiler.frontends.onnx import inspect_onnx

    return inspect_onnx(data, str(path), folder=Path(path).parent)


def _read(path: Path) -> tuple[str, bytes]:
    """The format of a model file, tflite or onnx, and its contents."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror or error}") from error
    if not data:
        raise ModelError(f"{path}: the file is empty")
    if data[4:8] == b"TFL3" or path.suffix == ".tflite":
        return "tflite", data
    # an ONNX file starts with its field 1, ir_version
    if path.suffix == ".onnx" or data[0] == 0x08:
        return "onnx", data
    raise ModelError(f"{path}: neither a TFLite nor an ONNX file")
