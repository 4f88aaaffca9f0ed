"""What others have printed about pruned BERTs, none of it run here."""

from benchmarks.measured import table
from benchmarks.results_page import NOTHING

# Source, task and score, dense, what was done, result.
OTHERS = [
    ("movement pruning", "SQuAD F1", "88.1", "15 % of the weights left, distilled", "84.9"),
    ("movement pruning", "MNLI accuracy, matched and mismatched", "84.5", "the same", "81.2, 81.8"),
    ("movement pruning", "QQP accuracy", "91.4", "the same", "90 to 91"),
    ("oBERT", "MNLI accuracy", "84.54", "80, 90, 97 % of the weights zero", "84.32, 83.20, 81.00"),
    ("oBERT", "MNLI accuracy", "84.54", "90, 97 % zero before fine-tuning", "83.40, 80.91"),
    ("oBERT", "QQP accuracy", "91.06", "80, 90, 97 % of the weights zero", "91.57, 91.35, 90.87"),
    ("oBERT", "SQuAD F1", "88.54", "80, 90, 97 % of the weights zero", "89.04, 87.98, 84.65"),
    ("oBERT", NOTHING, NOTHING, "70, 80, 90 % zero at once, without training", "83.38, 57.48, 14.57"),
    ("nn_pruning", "MNLI accuracy", "84.6", "65, 74, 81, 87 % of the weights removed", "83.71, 83.05, 82.69, 81.03"),
    ("nn_pruning", "MNLI, times as fast on an RTX 3090", "1", "65, 74, 81, 87 %", "2.00, 2.40, 2.86, 3.44"),
    ("nn_pruning", "SQuAD F1", "88.5", "59, 74, 86 % of the weights removed", "88.72, 87.71, 85.52"),
    ("nn_pruning", "SQuAD, times as fast on an RTX 3090", "1", "59, 74, 86 %", "1.84, 2.44, 3.64"),
]
# Method at 30 %, sparsity in percent, MB of what is not zero, ms on a CPU, times as fast, "average GLUE".
SPARSE_BERT = [
    ("dense ModernBERT-base", "0.00", "570.70", "759.38", "1.00", "0.897"),
    ("magnitude", "22.24", "443.80", "746.40", "1.02", "0.880"),
    ("heads", "10.38", "511.45", "722.39", "1.05", "0.882"),
    ("neurons", "7.81", "526.15", "828.82", "0.92", "0.870"),
    ("2:4", "37.06", "359.20", "664.07", "1.14", "0.865"),
    ("progressive, 10 to 50 %", "37.14", "358.74", "657.26", "1.16", "0.890"),
    ("and int8", NOTHING, "93.5", "527.5", "1.44", "0.877"),
]


def published() -> list[str]:
    """What the papers, their models' pages and the SparseBERT project print."""
    return [
        "## Published numbers",
        "Not run here, and on other models than ours: BERT-base on validation splits. Movement pruning is "
        "[arXiv 2005.07683](https://arxiv.org/abs/2005.07683), oBERT is "
        "[arXiv 2203.07259](https://arxiv.org/abs/2203.07259), nn_pruning is block movement pruning, "
        "[arXiv 2109.04838](https://arxiv.org/abs/2109.04838): there, heads and rows are removed.",
        table(["source", "task", "dense", "what was done", "result"], [list(row) for row in OTHERS]),
        "And the table of project SparseBERT. Its sparsities are real: they follow from the shapes. Megabytes are of "
        "the weights that are not zero, which no file has. Times are of ten runs with the same dense kernels, so their "
        "ratios are noise; a second run of its own has 0.59 where 1.16 stands. Its accuracies, and the row with int8, "
        "are numbers written into the code: nothing measured them.",
        table(
            ["method at 30 %", "sparsity, %", "MB not zero", "ms", "times as fast", "average GLUE (not measured)"],
            [list(row) for row in SPARSE_BERT],
        ),
    ]
