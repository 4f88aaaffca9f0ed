"""The ternary benchmark's own arithmetic; what it measures is not a test."""

import pytest

from benchmarks import ternary
from raysweep.measure import Latency
from trainables.parts.footprint import Footprint


def cost(one: float, many: float, weights: int) -> Footprint:
    times = (Latency(ms, ms, ms, 1) for ms in (one, many))
    return Footprint(*times, weights + 10, weights, None)


def test_ratios_are_taken_within_each_round() -> None:
    rounds = [
        {ternary.FLOAT: cost(2.0, 10.0, 400), "small": cost(3.0, 40.0, 100)},
        {ternary.FLOAT: cost(4.0, 10.0, 400), "small": cost(4.0, 20.0, 100)},
        {ternary.FLOAT: cost(1.0, 10.0, 400), "small": cost(5.0, 30.0, 100)},
    ]
    figures = ternary.Measured(rounds, {ternary.FLOAT: 200.0, "small": 50.0}, 0.0, 9.0)
    form, mb, of_weights, held, of_held, ones, of_ones, many, of_many = ternary.row("small", figures)
    assert (form, of_weights, of_held) == ("small", 0.25, 0.25)
    assert (mb, held) == pytest.approx((100 / 1e6, 50.0))
    assert (ones, of_ones) == (4.0, 1.5)  # of 1.5, 1 and 5, not 4 / 2
    assert (many, of_many) == (30.0, 3.0)


def test_float32_is_itself_and_every_form_has_its_row() -> None:
    rounds = [{ternary.FLOAT: cost(2.0, 10.0, 400), "small": cost(3.0, 40.0, 100)}]
    lines = ternary.shown(ternary.Measured(rounds, {ternary.FLOAT: 200.0, "small": 50.0}, 0.0, 9.0)).splitlines()
    assert [line.split(" | ")[0].strip("| ") for line in lines[2:]] == [ternary.FLOAT, "small"]
    assert lines[2].count("1.00") == 4
