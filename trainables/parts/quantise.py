"""Post-training quantisation by ONNX Runtime: the same model in fewer bits, without any training.

What each kind saves in bytes and time is measured by `benchmarks/pruning.py`.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from shutil import copyfile
from typing import Any, Literal

import onnx
from pydantic import Field

from raysweep.recipe import Settings
from trainables.parts.onnx_predictor import Feed
from trainables.parts.silence import silenced

Kind = Literal["none", "onnx", "dynamic_int8", "static_int8", "weights_int8", "fp16"]

PRODUCTS = ["MatMul", "Gemm"]
OPERATORS = [*PRODUCTS, "Gather"]  # with the tables of embeddings, which are most of a small model's bytes
BLOCK = 64  # neighbours that share a scale; with more of them ONNX Runtime's answers may depend on the batch
ACTIVATIONS = {
    "dynamic_int8": "activations in int8, scaled anew for each batch",
    "static_int8": "activations in int8, scaled as calibrated",
    "weights_int8": "activations in float32, rounded to int8 token by token inside of products",
}


class QuantiseSettings(Settings):
    """In how many bits the numbers of the finished model are stored and multiplied."""

    kind: Kind = Field(
        "none",
        description="none stays in torch; the others run in ONNX Runtime: onnx in float32, the control, dynamic_int8"
        " with activations scaled by the batch, so that a text's answer depends on the texts beside it, static_int8"
        " with scales fixed by training texts, weights_int8 with weights alone in int8, fp16 with all in 16 bits, which"
        " a CPU computes in float32",
    )
    calibration_rows: int = Field(128, ge=1, description="with static_int8: training texts that the scales come from")


def check(settings: QuantiseSettings, kind: str) -> list[str]:
    """What settings and the kind of a task do not allow together."""
    if settings.kind != "none" and kind == "span":
        return [f"quantise.kind {settings.kind} is for labels and numbers, not for answers in texts: set it to none"]
    return []


def quantise(kind: Kind, source: Path, target: Path, feeds: Iterable[Feed] = ()) -> None:
    """Write the float32 model in `source` to `target` in this kind; static_int8 runs all `feeds`, one by one."""
    assert kind != "none"
    with silenced():
        if kind == "onnx":
            copyfile(source, target)
        elif kind == "dynamic_int8":
            _dynamic(source, target, OPERATORS)
        elif kind == "static_int8":
            _static(source, target, feeds)
        elif kind == "weights_int8":
            _weights(source, target)
        else:
            _halved(source, target)


def kernel(kind: Kind, file: Path) -> str:
    """What computes a quantised model."""
    if kind == "onnx":
        return "ONNX Runtime, dense float32"
    if kind == "fp16":
        return "ONNX Runtime, weights stored in 16 bits; on a CPU computed in float32"
    counts = sorted(int8_operators(file).items(), key=lambda found: (-found[1], found[0]))
    said = ", ".join(f"{count} {name}" for name, count in counts)
    return f"ONNX Runtime, weights of {said} in int8; {ACTIVATIONS[kind]}"


def int8_operators(file: Path) -> dict[str, int]:
    """How many operators of each type take weights of 8 bits."""
    graph = onnx.load(file).graph
    eight = (onnx.TensorProto.INT8, onnx.TensorProto.UINT8)
    stored = {tensor.name for tensor in graph.initializer if tensor.data_type in eight and len(tensor.dims) > 1}
    widened = [node for node in graph.node if node.op_type == "DequantizeLinear" and stored & set(node.input)]
    read = stored | {name for node in widened for name in node.output}
    users = [node.op_type for node in graph.node if node not in widened and read & set(node.input)]
    return dict(Counter(users))


def _dynamic(source: Path, target: Path, operators: list[str]) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    # A scale for each output of a matrix: one for all would be as coarse as the largest of them needs.
    quantize_dynamic(source, target, operators, per_channel=True, weight_type=QuantType.QInt8)


def _static(source: Path, target: Path, feeds: Iterable[Feed]) -> None:
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    # From the smallest to the largest value seen: narrower ranges cut off outliers. Outputs stay in float32: they would
    # be rounded before the bias is added. So do products of two activations, which have no weights to make smaller.
    quantize_static(
        source,
        target,
        _reader(feeds),
        QuantFormat.QDQ,
        OPERATORS,
        per_channel=True,
        activation_type=QuantType.QUInt8,  # with int8 on both sides there are no fast kernels on x86
        weight_type=QuantType.QInt8,
        nodes_to_exclude=_of_activations(source),
        calibrate_method=CalibrationMethod.MinMax,
        extra_options={"OpTypesToExcludeOutputQuantization": OPERATORS},
    )


def _reader(feeds: Iterable[Feed]) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self, feeds: Iterator[Feed]) -> None:
            self._feeds = feeds

        def get_next(self) -> Feed | None:
            return next(self._feeds, None)

    return Reader(iter(feeds))


def _of_activations(source: Path) -> list[str]:
    """The names of products that have no weights."""
    graph = onnx.load(source).graph
    weights = {tensor.name for tensor in graph.initializer}
    return [node.name for node in graph.node if node.op_type in PRODUCTS and not weights & set(node.input)]


def _weights(source: Path, target: Path) -> None:
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    _dynamic(source, target, ["Gather"])  # which the other quantiser knows in 4 bits alone
    int8_products = 4  # "accuracy level": for float32 ones every weight would first be made a float32 again
    quantiser = MatMulNBitsQuantizer(
        onnx.load(target), bits=8, block_size=BLOCK, is_symmetric=True, accuracy_level=int8_products
    )
    quantiser.process()
    quantiser.model.save_model_to_file(str(target))


def _halved(source: Path, target: Path) -> None:
    from onnxruntime.transformers.float16 import convert_float_to_float16

    onnx.save(convert_float_to_float16(onnx.load(source), keep_io_types=True), target)
