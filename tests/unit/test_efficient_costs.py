"""What training and serving take: epochs add up across restarts, costs are those of the exported folder, told once."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from raysweep.energy import NO_GPU
from raysweep.measure import Latency, folder_bytes
from raysweep.resource_usage import FILE, Meter, ResourceUsage
from tests.counters import domain
from tests.text_models import config_of, trained
from trainables.parts import text_build
from trainables.parts.efficient import costs as module
from trainables.parts.efficient.costs import (
    COST_METRICS,
    RESOURCE_METRICS,
    Costs,
    Spent,
    kept_costs,
    metered,
    serving_costs,
    write_usage,
)
from trainables.parts.footprint import Footprint, Memory, weight_bytes

USAGE = ResourceUsage(
    duration_seconds=4.0,
    samples=100,
    samples_per_second=25.0,
    energy_joules=60.0,
    energy_processor_joules=40.0,
    energy_gpu_joules=20.0,
    peak_memory_mb=500.0,
    peak_gpu_memory_mb=900.0,
    processor_utilisation_percent=50.0,
    gpu_utilisation_percent=90.0,
)
COSTS = Costs(1.5, 2.5, 12.0, 1500.0, 2000, 1800, 300.0, 0.25)
TEXTS = [f"the old dog {number}" for number in range(40)]


def spent(*usages: ResourceUsage) -> Spent:
    found = Spent()
    for usage in usages:
        found.add(usage)
    return found


def restarted(one: Spent) -> Spent:
    return Spent.restored(json.loads(json.dumps(one.state())))


def test_epochs_add_up() -> None:
    other = replace(
        USAGE,
        duration_seconds=1.0,
        samples=50,
        energy_joules=10.0,
        energy_gpu_joules=4.0,
        peak_memory_mb=700.0,
        peak_gpu_memory_mb=800.0,
        processor_utilisation_percent=100.0,
        gpu_utilisation_percent=40.0,
    )
    found = spent(USAGE, other)
    assert found.metrics() == {
        "resources.train_seconds": 5.0,
        "resources.train_joules": 70.0,
        "resources.peak_memory_mb": 700.0,
        "resources.peak_gpu_memory_mb": 900.0,
        "resources.processor_percent": pytest.approx(60.0),
        "resources.gpu_percent": pytest.approx(80.0),
    }
    usage = found.usage()
    assert (usage.samples, usage.samples_per_second, usage.energy_gpu_joules) == (150, 30.0, 24.0)
    assert usage.reasons == {}


usages = st.builds(
    lambda seconds, samples, joules, peak, load: replace(
        USAGE,
        duration_seconds=seconds,
        samples=samples,
        energy_joules=joules,
        peak_gpu_memory_mb=peak,
        processor_utilisation_percent=load,
        reasons={"energy_joules": "no counters"} if joules is None else {},
    ),
    st.floats(0.01, 1e4),
    st.integers(0, 10**6),
    st.none() | st.floats(0, 1e6),
    st.floats(0, 1e5),
    st.none() | st.floats(0, 100),
)


@given(st.lists(usages, min_size=1, max_size=8), st.integers(0, 8))
def test_a_restart_changes_nothing_and_nothing_is_made_up(epochs: list[ResourceUsage], stop: int) -> None:
    whole, half = spent(*epochs), restarted(spent(*epochs[:stop]))
    for usage in epochs[stop:]:
        half.add(usage)
    assert half == whole
    found, joules = whole.usage(), [usage.energy_joules for usage in epochs]
    assert found.duration_seconds == pytest.approx(sum(usage.duration_seconds for usage in epochs))
    assert found.samples == sum(usage.samples for usage in epochs)
    assert found.peak_gpu_memory_mb == max(usage.peak_gpu_memory_mb or 0 for usage in epochs)
    if None in joules:
        assert found.energy_joules is None
        assert found.reasons["energy_joules"] == "no counters"
        assert "resources.train_joules" not in whole.metrics()
    else:
        assert found.energy_joules == pytest.approx(np.sum(joules))
    told = [usage for usage in epochs if usage.processor_utilisation_percent is not None]
    loads, seconds = (
        [getattr(usage, name) for usage in told] for name in ("processor_utilisation_percent", "duration_seconds")
    )
    expected = np.average(loads, weights=seconds) if told else None
    assert found.processor_utilisation_percent == (None if expected is None else pytest.approx(expected))


def test_a_model_that_was_not_trained_took_no_seconds() -> None:
    assert Spent().metrics() == {"resources.train_seconds": 0.0}
    usage = Spent().usage()
    assert usage.peak_memory_mb > 10
    assert usage.reasons["gpu_utilisation_percent"] == "no epoch was trained"


def test_every_metric_has_a_sentence() -> None:
    assert spent(USAGE).metrics().keys() == RESOURCE_METRICS.keys()
    assert COSTS.metrics().keys() == COST_METRICS.keys()


def test_an_epoch_on_the_cpu_is_metered() -> None:
    with metered("cpu") as meter:
        time.sleep(0.02)
        meter.count(10)
    assert meter.usage.duration_seconds >= 0.02
    assert meter.usage.samples == 10


def test_on_a_gpu_the_block_ends_with_its_work(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def noted(name: str, answer: Any = None) -> Callable[[str], Any]:
        return lambda device: calls.append(f"{name} {device}") or answer

    monkeypatch.setattr(torch.cuda, "synchronize", noted("synchronise"))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", noted("reset"))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", noted("peak", 123_000_000))
    with metered("cuda:1") as meter:
        calls.append("block")
    assert calls == ["synchronise cuda:1", "reset cuda:1", "block", "synchronise cuda:1", "peak cuda:1"]
    assert meter.usage.peak_gpu_memory_mb == 123.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small exported model."""
    config = config_of(encoder={"layers": 1, "max_length": 32})
    place = tmp_path_factory.mktemp("exported") / "model"
    text_build.export_model(config, *trained(config), place)
    return place


def test_costs_are_those_of_the_exported_model(folder: Path) -> None:
    threads = torch.get_num_threads()
    found = serving_costs(folder, TEXTS, "cpu", threads + 1, repeats=5, memory=False, least_seconds=0.0)
    assert (found.disk_bytes, found.weight_bytes) == (folder_bytes(folder), weight_bytes(folder))
    assert 0 < found.one_p50_ms <= found.one_p95_ms
    assert found.many_ms > 0
    assert found.texts_per_second > 0
    assert found.reasons["memory_mb"] == "measure.memory is false"
    assert ("joules_per_text" in found.reasons) == (found.joules_per_text is None)
    assert torch.get_num_threads() == threads


class Predictor:
    """Answers in 0.9 seconds, and takes 9 joules."""

    def __init__(self, tick: Callable[[], None]) -> None:
        self.tick, self.asked = tick, list[tuple[int, int, int]]()

    def predict(self, texts: Any, batch_size: int) -> None:
        self.asked.append((len(texts), batch_size, torch.get_num_threads()))
        self.tick()


def test_throughput_and_joules_are_of_whole_passes_behind_a_first_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter, clock = domain(tmp_path, "intel-rapl:0", "package-0"), [100.0]
    none: Any = ([], NO_GPU)

    def tick() -> None:
        clock[0] += 0.9
        counter.write_text(str(int(counter.read_text()) + 9_000_000))

    @contextmanager
    def counted(device: str) -> Iterator[Meter]:
        with Meter(powercap=tmp_path, gpus=lambda: none, seconds_between=3600.0) as meter:
            yield meter

    model = Predictor(tick)
    monkeypatch.setattr(module, "TextPredictor", lambda folder, device: model)
    monkeypatch.setattr(module, "metered", counted)
    monkeypatch.setattr(
        module, "footprint", lambda *_, **__: {"model": Footprint(*[Latency(1, 2, 3, 4)] * 2, 5, 6, None)}
    )
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    threads = torch.get_num_threads() + 1
    found = serving_costs(tmp_path, ["text"] * 600, "cpu", threads, repeats=5, memory=False)
    assert model.asked == [(512, 32, threads)] * 4, "one pass that is not counted, and three for two seconds"
    assert found.texts_per_second == pytest.approx(512 / 0.9)
    assert found.joules_per_text == pytest.approx(9 / 512)


@pytest.mark.parametrize(
    ("device", "memory", "loaders"),
    [
        ("cpu", True, [("text_predictor:load", True)]),
        ("cpu", False, [("text_predictor:load", False)]),
        ("cuda", False, [("costs:load_on_gpu", False)]),
        ("cuda:0", True, [("costs:load_on_gpu", False), ("text_predictor:load", True)]),
    ],
)
def test_memory_is_that_of_a_process_on_the_cpu(
    device: str, memory: bool, loaders: list[tuple[str, bool]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls: list[tuple[str, bool]] = []

    def footprint(folders: Any, texts: Any, loader: str, threads: int, repeats: int, memory: bool = True) -> Any:
        calls.append((loader.rpartition(".")[2], memory))
        held = Memory(100.0, 250.0) if memory else None
        return {"model": Footprint(Latency(1, 2, 3, 4), Latency(5, 6, 7, 8), 9, 10, held)}

    monkeypatch.setattr(module, "footprint", footprint)
    monkeypatch.setattr(module, "TextPredictor", lambda folder, device: None)
    monkeypatch.setattr(module, "_passes", lambda *_: USAGE)
    found = serving_costs(tmp_path, TEXTS, device, 1, 5, memory)
    assert calls == loaders
    expected = Costs(1, 2, 5, 25.0, 9, 10, 250.0, 0.6)
    assert found == (expected if memory else replace(expected, memory_mb=None, reasons=found.reasons))


def test_the_gpus_loader_serves_on_the_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made: list[Any] = []

    class Served:
        def __init__(self, folder: Path, device: str) -> None:
            made.append((folder, device))

        def predict(self) -> None: ...

    monkeypatch.setattr(module, "TextPredictor", Served)
    assert callable(module.load_on_gpu(tmp_path))
    assert made == [(tmp_path, "cuda")]


numbers = st.floats(0, allow_nan=False, allow_infinity=False)


@given(
    st.builds(Costs, numbers, numbers, numbers, numbers, st.integers(0), st.integers(0), st.none() | numbers, numbers)
)
def test_costs_are_measured_once_and_kept_exactly(tmp_path_factory: pytest.TempPathFactory, costs: Costs) -> None:
    file = tmp_path_factory.mktemp("trial") / "later" / "costs.json"
    assert kept_costs(file, lambda: costs) == costs

    def never() -> Costs:
        raise AssertionError("measured again")

    assert kept_costs(file, never) == costs
    assert [path.name for path in file.parent.iterdir()] == ["costs.json"]


def test_what_cannot_be_measured_leaves_no_file(tmp_path: Path) -> None:
    def fails() -> Costs:
        raise RuntimeError("no memory")

    with pytest.raises(RuntimeError, match="no memory"):
        kept_costs(tmp_path / "costs.json", fails)
    assert list(tmp_path.iterdir()) == []


def test_the_file_beside_a_model_tells_both_and_why_something_is_missing(tmp_path: Path) -> None:
    training = spent(replace(USAGE, gpu_utilisation_percent=None, reasons={"gpu_utilisation_percent": NO_GPU}))
    serving = replace(COSTS, joules_per_text=None, reasons={"joules_per_text": "no RAPL counters readable"})
    assert write_usage(tmp_path, training, serving) == tmp_path / FILE
    told = YAML(typ="safe").load(tmp_path / FILE)
    assert told["training"] == {
        "duration_seconds": 4.0,
        "samples": 100,
        "samples_per_second": 25.0,
        "energy_joules": 60.0,
        "energy_processor_joules": 40.0,
        "energy_gpu_joules": 20.0,
        "peak_memory_mb": 500.0,
        "peak_gpu_memory_mb": 900.0,
        "processor_utilisation_percent": 50.0,
        "gpu_utilisation_percent": "not measured: no GPU",
    }
    assert told["serving"] == {
        "latency_p50_ms": 1.5,
        "latency_p95_ms": 2.5,
        "latency_batch16_ms": 12.0,
        "throughput_texts_per_second": 1500.0,
        "size_disk_bytes": 2000,
        "size_weight_bytes": 1800,
        "memory_serving_mb": 300.0,
        "energy_joules_per_text": "not measured: no RAPL counters readable",
    }
