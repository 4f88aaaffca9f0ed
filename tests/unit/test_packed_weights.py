"""Packed weights: what is read is what was written, bit by bit, and a file is never larger for it."""

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from trainables.parts.model_files import WEIGHTS, write_weights
from trainables.parts.packed_weights import pack_tensors, packed_bytes, read_weights, unpack_tensors, write_packed

KINDS = [
    torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.int8, torch.uint8,
    torch.int16, torch.int32, torch.int64, torch.bool, torch.complex64, torch.complex128,
]  # fmt: skip

FLOATS = [torch.float32, torch.float64, torch.float16, torch.bfloat16]


def sparse(*shape: int, share: float = 0.9, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(shape, generator=generator)
    return values.masked_fill(torch.rand(shape, generator=generator) < share, 0)


def same(one: Tensor, other: Tensor) -> bool:
    """Bit by bit, so that NaN is NaN and -0.0 is not 0.0."""
    kinds = one.dtype == other.dtype and one.shape == other.shape
    return kinds and one.contiguous().flatten().view(torch.uint8).equal(other.contiguous().flatten().view(torch.uint8))


def written(tensors: dict[str, Tensor], file: Path) -> int:
    save_file(tensors, file)
    return file.stat().st_size


def round_trip(state: dict[str, Tensor]) -> list[str]:
    """The names of what was packed."""
    tensors, index = pack_tensors(state)
    assert all(tensor.is_contiguous() for tensor in tensors.values()), "safetensors takes no others"
    found = unpack_tensors(tensors, index)
    assert found.keys() == state.keys()
    assert all(same(found[name], tensor) for name, tensor in state.items())
    return [name for name in state if name not in tensors]


def test_nine_tenths_zeros_take_a_bit_each_and_the_values() -> None:
    weight = torch.zeros(64, 80)
    weight.view(-1)[::10] = torch.arange(1, 513).float()
    tensors, index = pack_tensors({"a.weight": weight})
    assert index == '{"a.weight": [64, 80]}'
    assert tensors.keys() == {"a.weight:values", "a.weight:mask"}
    assert tensors["a.weight:values"].tolist() == list(range(1, 513))
    assert tensors["a.weight:mask"].tolist()[:5] == [0b10000000, 0b00100000, 0b00001000, 0b00000010, 0b00000000]
    assert sum(tensor.nbytes for tensor in tensors.values()) == weight.nbytes // 32 + weight.nbytes // 10


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_every_kind_of_number_comes_back(kind: torch.dtype) -> None:
    packed = round_trip({"zeros": sparse(50, 200).to(kind), "dense": torch.ones(50, 200).to(kind)})
    assert packed == ([] if kind == torch.complex128 else ["zeros"])


def test_odd_values_and_shapes_come_back() -> None:
    odd = sparse(3, 7, 101)
    odd[0, 0, :4] = torch.tensor([-0.0, torch.nan, torch.inf, 1e-45])
    payload = torch.tensor([0x7FC00001, -0x00400000], dtype=torch.int32).view(torch.float32)  # two NaNs of other bits
    odd[0, 0, 4:6] = payload
    transposed = sparse(40, 60).T
    assert not transposed.is_contiguous()
    state = {
        "odd": odd,
        "all zero": torch.zeros(33, 31),
        "empty": torch.empty(0, 4),
        "one": torch.tensor(0.0),
        "transposed": transposed,
        "transposed and dense": torch.ones(40, 60).T,
        "learnt": nn.Parameter(sparse(2000)),
    }
    assert round_trip(state) == ["odd", "all zero", "transposed", "learnt"]


@given(
    st.lists(st.integers(0, 40), min_size=0, max_size=3), st.floats(0, 1), st.integers(0, 99), st.sampled_from(KINDS)
)
def test_whatever_is_packed_comes_back(shape: list[int], share: float, seed: int, kind: torch.dtype) -> None:
    round_trip({"weight": sparse(*shape, share=share, seed=seed).to(kind)})


@pytest.mark.parametrize("kind", [torch.float32, torch.float16, torch.int8], ids=str)
def test_only_what_becomes_smaller_is_packed(kind: torch.dtype, tmp_path: Path) -> None:
    name = "encoder.encoder.layer.11.attention.output.dense.weight"
    packed = []
    for zeros in range(0, 4001, 20):
        tensor = torch.ones(4000, dtype=kind)
        tensor[:zeros] = 0
        tensors, index = pack_tensors({name: tensor})
        packed.append(index != "{}")
        if packed[-1]:
            save_file(tensors, tmp_path / "packed", metadata={"packed": index})
            assert (tmp_path / "packed").stat().st_size < written({name: tensor}, tmp_path / "plain")
    assert packed == sorted(packed)
    assert packed[0] is False
    assert packed[-1] is True


class Module(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(100, 100)
        self.register_buffer("rows", torch.arange(5))
        self.layer.weight.data = sparse(100, 100, share=0.8)


def test_both_kinds_of_folders_are_read(tmp_path: Path) -> None:
    module = Module()
    write_packed(tmp_path / "packed", module)
    write_weights(tmp_path / "plain", module)
    for folder in ("packed", "plain"):
        found = read_weights(tmp_path / folder)
        assert found.keys() == module.state_dict().keys()
        assert all(same(found[name], tensor) for name, tensor in module.state_dict().items())
        Module().load_state_dict(found)
    packed, plain = ((tmp_path / folder / WEIGHTS).stat().st_size for folder in ("packed", "plain"))
    assert packed < 0.3 * plain, "a fifth of the values, and a 32nd"


@given(
    st.lists(
        st.tuples(st.integers(0, 3000), st.floats(0, 1), st.sampled_from([*FLOATS, torch.int8, torch.complex64])),
        max_size=4,
    )
)
def test_bytes_are_counted_as_they_are_written(parts: list[tuple[int, float, torch.dtype]]) -> None:
    """All of the file but its header, which begins with its own length; a zero of either sign is one."""
    module = nn.Module()
    for number, (count, share, kind) in enumerate(parts):
        values = sparse(count, share=share, seed=number)
        module.register_buffer(f"part{number}", torch.where(values == 0, -values, values).to(kind))
    with TemporaryDirectory() as folder:
        write_packed(Path(folder), module)
        file = (Path(folder) / WEIGHTS).read_bytes()
    assert packed_bytes(module.state_dict()) == len(file) - 8 - int.from_bytes(file[:8], "little")


def test_what_a_mask_leaves_of_negative_weights_is_zero(tmp_path: Path) -> None:
    module = Module()
    kept = module.layer.weight.detach().clone()
    module.layer.weight.data = torch.where(kept == 0, -1.0, kept) * (kept != 0)
    assert module.layer.weight.signbit().sum() > 8000
    write_packed(tmp_path, module)
    assert same(read_weights(tmp_path)["layer.weight"], kept)
    assert (tmp_path / WEIGHTS).stat().st_size < 12_000


def test_one_who_does_not_know_of_it_is_not_misled(tmp_path: Path) -> None:
    write_packed(tmp_path, Module())
    with pytest.raises(RuntimeError, match="Missing key"):
        Module().load_state_dict(load_file(tmp_path / WEIGHTS))


def test_what_is_read_may_be_changed(tmp_path: Path) -> None:
    write_packed(tmp_path, Module())
    for tensor in read_weights(tmp_path).values():
        tensor.fill_(7)
    assert same(read_weights(tmp_path)["layer.weight"], sparse(100, 100, share=0.8))


def test_names_are_not_taken_twice() -> None:
    with pytest.raises(AssertionError, match=":mask"):
        pack_tensors({"a": torch.zeros(9000), "a:mask": torch.ones(3)})


def test_reading_needs_no_raysweep() -> None:
    script = "import sys; import trainables.parts.packed_weights; print([n for n in sys.modules if 'raysweep' in n])"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_two_of_four_is_a_little_over_half() -> None:
    weight = torch.ones(256, 256)
    weight[:, ::4] = weight[:, 1::4] = 0
    tensors, _ = pack_tensors({"weight": weight})
    assert sum(tensor.nbytes for tensor in tensors.values()) / weight.nbytes == np.float64(0.5 + 1 / 32)
