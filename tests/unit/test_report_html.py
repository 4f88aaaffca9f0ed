"""The report file: whole by itself, safe whatever the journal says, and silent about what was not measured."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysweep.journal import Journal
from raysweep.problems import UserError
from raysweep.report import SweepView, write_report
from raysweep.report.figures import curves, history, slices
from raysweep.report.html import page
from raysweep.report.proof_figures import arms, tradeoffs
from tests import journals

Record = dict[str, Any]
LOADING = {"src", "href", "srcset", "data", "action", "poster", "background"}


class Page(HTMLParser):
    """Elements in order, their attributes, and the text of each kind of element."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self._seen: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag != "meta":
            self._open.append(tag)
            self.texts.setdefault(tag, []).append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        for tag in dict.fromkeys(self._open):
            self.texts[tag][-1] += data
        self._seen += [data] if "main" in self._open else []

    @property
    def seen(self) -> str:
        """What a reader sees."""
        return " ".join(" ".join(self._seen).split())


def stamped(events: list[journals.Event]) -> list[Record]:
    return [{"kind": kind, "time": 1000.0 + place, **fields} for place, (kind, fields) in enumerate(events)]


def rendered(records: list[Record], sweep_file: str | None = None, **view: Any) -> Page:
    return Page(page(SweepView.from_records(records, **view), sweep_file))


COMPLETE = stamped(journals.sweep())
WHOLE = page(SweepView.from_records(COMPLETE), "schema: sweep/v1\n# my own words\n")


def test_nothing_is_loaded_from_outside() -> None:
    read = Page(WHOLE)
    for tag, attributes in read.elements:
        assert tag not in ("link", "iframe", "object", "embed", "base", "img"), tag
        for name in LOADING & attributes.keys():
            assert (attributes[name] or "").startswith("#"), (tag, name)
    styles = "".join(read.texts["style"])
    assert "url(" not in styles
    assert "@import" not in styles


def test_the_policy_allows_these_scripts_and_nothing_else() -> None:
    read = Page(WHOLE)
    policy = next(a["content"] for t, a in read.elements if t == "meta" and "http-equiv" in a)
    run = [text for text in read.texts["script"] if not text.startswith("{")]
    digests = {base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in run}
    assert set(re.findall(r"'sha256-([^']+)'", policy or "")) == digests
    assert "default-src 'none'" in (policy or "")
    assert "http" not in (policy or "")
    assert len(run) == 2  # plotly.js once, and the page's own
    assert sum("plotly.js v" in text for text in run) == 1


def test_the_page_says_what_was_found() -> None:
    seen = Page(WHOLE).seen
    for words in (
        "SYNTHETIC DATA",
        "On 2 fresh seeds and the report split the winner 'finalist-1' scores spearman 0.760 [0.740, 0.780]",
        "against 'plain' the difference is +0.06 [+0.01, +0.11]: better",
        "optimism gap +0.01",
        "ValueError: no",
        "mlflow.pyfunc.load_model('models:/tiny@champion')",
        "trials/t0008/model",
        "raysweep run tiny.yaml",
        "0123abcd",
        "sha256 " + "a" * 64,
        "my own words",
        "4,800 bytes",
    ):
        assert words in seen, words


def compared(**changes: Any) -> list[Record]:
    """The story with changes to its comparison."""
    made = [dict(record) for record in COMPLETE]
    found = next(record for record in made if record["kind"] == "confirmed")
    found["comparisons"] = [{**row, **changes} for row in found["comparisons"]]
    return made


def test_the_remaining_error_stands_beside_the_difference() -> None:
    read = rendered(compared(error_reduction={"value": 0.2, "low": 0.034, "high": 0.367}))
    assert "the difference is +0.06 [+0.01, +0.11], remaining error -20 % [-37 %, -3 %]: better" in read.seen
    assert "-20 % [-37 %, -3 %]" in read.texts["td"]
    assert "the winner lacks a tenth less" in read.seen
    for undefined in (compared(error_reduction=None), COMPLETE):  # the second is a journal from before there was one
        assert "remaining error" not in rendered(undefined).seen


def test_further_scores_have_a_table_of_their_own() -> None:
    made = [dict(record) for record in COMPLETE]
    found = next(record for record in made if record["kind"] == "confirmed")
    hard = {"statistic": "f1", "mean": 0.5, "low": 0.4, "high": 0.6, "per_seed": [0.45, 0.55]}
    found["arms"] = [{**arm, "others": {"hard": {**hard, "mean": arm["mean"] - 0.2}}} for arm in found["arms"]]
    cells = rendered(made).texts["td"]
    for arm, score in (("finalist-1", "0.56 [0.40, 0.60]"), ("plain", "0.50 [0.40, 0.60]")):
        place = next(i for i in range(len(cells)) if cells[i : i + 2] == ["hard: f1", arm])
        assert cells[place + 2 : place + 4] == [score, "0.45, 0.55"]
    assert "Further scores" not in Page(WHOLE).seen


def test_arms_name_the_value_that_the_proof_compares() -> None:
    spec = {**COMPLETE[0]["spec"], "confirm": {**COMPLETE[0]["spec"]["confirm"], "per": "layers"}}
    read = rendered([{**COMPLETE[0], "spec": spec}, *COMPLETE[1:]])
    assert "the winner 'finalist-1 (layers=1)' scores" in read.seen
    assert "against 'plain (layers=1)' the difference" in read.seen
    assert "finalist-1 (layers=1)" in read.texts["strong"]
    assert "so it has no finalist" not in read.seen
    last = [record for record in COMPLETE[1:] if record.get("trial") not in ("t0005", "t0007")]  # complete, of 2 layers
    seen = rendered([{**COMPLETE[0], "spec": spec}, *last]).seen
    assert "No trial with layers=2 was trained to its end, so it has no finalist." in seen


def test_real_data_have_no_banner() -> None:
    head = {**COMPLETE[0], "data": {**COMPLETE[0]["data"], "synthetic": False}}
    assert "SYNTHETIC" not in rendered([head, *COMPLETE[1:]]).seen


def test_what_is_missing_is_said() -> None:
    seen = rendered(COMPLETE[:3], running=True).seen
    for words in (
        "0 of 16 search trials are over; none is complete, so there is no best trial yet",
        "There are no finalists yet.",
        "No trial has reported yet.",
        "No rung has decided anything.",
        "No attempt failed.",
        "No model is registered yet.",
        "not measured",
    ):
        assert words in seen, words


def test_a_sweep_without_a_proof_says_that_its_best_is_optimistic() -> None:
    spec = {**COMPLETE[0]["spec"], "confirm": {"top": 0}}
    search = [record for record in COMPLETE[1:] if record.get("number", 0) < 8 and record.get("trial", "") < "t0008"]
    events = [{**COMPLETE[0], "spec": spec}, *(r for r in search if r["kind"] not in ("confirmed", "registered"))]
    seen = rendered(events).seen
    assert "which is optimistic, for it was chosen as the best of many: nothing has confirmed it" in seen
    assert "The sweep file asks for no proof" in seen


@settings(max_examples=25, deadline=None)
@given(st.integers(0, len(COMPLETE)), st.booleans())
def test_a_journal_cut_anywhere_gives_a_page(cut: int, running: bool) -> None:
    read = rendered(COMPLETE[:cut], running=running)
    assert read.texts["h1"] == ["tiny" if cut else "A sweep that has not begun"]
    for text in read.texts.get("script", []):
        assert not text.startswith("{") or json.loads(text)["data"]


NASTY = "</script><img src=x onerror=alert(1)>\"'&<!--{}"


def nasty(value: Any) -> Any:
    """A mapping with every name and text in it made hostile."""
    if isinstance(value, dict):
        return {name + NASTY: nasty(entry) for name, entry in value.items()}
    return value + NASTY if isinstance(value, str) else value


def hostile(record: Record) -> Record:
    """A record with everything hostile that the engine does not choose itself."""
    made = dict(record)
    for field in ("metrics", "values", "config", "card", "machine"):
        if field in made:
            made[field] = nasty(made[field])
    for field in ("error", "reason", "command", "commit", "model", "alias", "uri"):
        if isinstance(made.get(field), str):
            made[field] += NASTY
    if made["kind"] == "sweep":
        spec = {**made["spec"], "description": NASTY, "recipe": NASTY, "objectives": [{"metric": "spearman" + NASTY}]}
        hashes = nasty(made["data"]["hashes"])
        made |= {"spec": spec, "data": {**made["data"], "name": NASTY, "source": NASTY, "hashes": hashes}}
    if made["kind"] == "confirmed":
        arms = [{**arm, "arm": arm["arm"] + NASTY, "config": nasty(arm["config"])} for arm in made["arms"]]
        found = [{**one, "against": one["against"] + NASTY, "verdict": NASTY} for one in made["comparisons"]]
        made |= {"arms": arms, "comparisons": found}
    return made


def test_no_name_or_text_of_a_journal_becomes_code() -> None:
    good, bad = Page(WHOLE), rendered([hostile(record) for record in COMPLETE], NASTY)
    assert {tag for tag, _ in bad.elements} <= {tag for tag, _ in good.elements}
    kinds = [attributes.get("type") for tag, attributes in bad.elements if tag == "script"]
    assert [kind for kind in kinds if kind != "application/json"] == [None, None]
    assert not [a for _, attributes in bad.elements for a in attributes if a.startswith("on")]
    assert bad.seen.count("onerror=alert(1)") > 40
    data = [text for text in bad.texts["script"] if text.startswith("{")]
    assert not any("<" in text for text in data)
    figures = [json.loads(text) for text in data]
    for figure in figures:  # plotly reads a few tags in its texts
        assert "<img" not in json.dumps(figure)


def test_the_report_replaces_the_old_one_whole(tmp_path: Path) -> None:
    folder = journals.write(tmp_path / "sweep", journals.sweep())
    path = write_report(folder)
    assert path == folder / "report.html"
    assert "'finalist-1' scores spearman" in Page(path.read_text(encoding="utf-8")).seen
    assert sorted(entry.name for entry in folder.iterdir()) == ["journal.jsonl", "report.html", "sweep.yaml"]


def test_a_folder_without_a_journal_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"it has no journal\.jsonl"):
        write_report(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_journal_has_a_report(tmp_path: Path) -> None:
    Journal(tmp_path / "journal.jsonl").close()
    assert "nothing has been recorded yet" in Page(write_report(tmp_path).read_text(encoding="utf-8")).seen


def traces(figure: Any) -> dict[str, Any]:
    return {trace["name"]: trace for trace in figure.to_dict()["data"]}


def test_curves_are_drawn_by_outcome_with_gaps_rungs_and_ends() -> None:
    figure = curves(SweepView.from_records(COMPLETE))
    drawn = traces(figure)
    stopped = [*(0.5 + 0.01 + 0.05 * s for s in (1, 2)), None, *(0.5 + 0.06 + 0.05 * s for s in (1, 2)), None]
    assert drawn["stopped"]["y"] == pytest.approx(stopped)
    assert drawn["best: t0007"]["x"] == [1, 2, 3, 4, None]
    assert drawn["stopped here"]["x"] == [2, 2]
    assert drawn["finalists of the proof"]["visible"] == "legendonly"
    assert [shape["x0"] for shape in figure.to_dict()["layout"]["shapes"]] == [0]


def test_the_best_so_far_never_gets_worse_and_leaves_stopped_trials_out() -> None:
    best = traces(history(SweepView.from_records(COMPLETE)))["best so far"]
    assert list(best["x"]) == [0, 2, 5, 7]
    assert list(best["y"]) == pytest.approx([0.70, 0.72, 0.75, 0.77])


def test_slices_leave_out_trials_in_which_a_setting_is_inactive() -> None:
    records = []
    for record in COMPLETE:
        config = record.get("config")
        if config and record["number"] % 2:
            record = {**record, "config": {name: value for name, value in config.items() if name != "lr"}}
        records.append(record)
    found = dict(slices(SweepView.from_records(records)))
    assert list(found) == ["lr", "layers"]
    lr = found["lr"].to_dict()
    assert sorted(x for trace in lr["data"] for x in trace["x"]) == pytest.approx([1e-3 / 7, 1e-3 / 3, 1e-3])
    assert lr["layout"]["xaxis"]["title"]["text"] == "active in 4 of 8 trials"


def test_arms_show_mean_interval_and_every_seed() -> None:
    means = [trace for trace in arms(SweepView.from_records(COMPLETE)).to_dict()["data"] if "error_x" in trace]
    assert [(t["x"], t["y"]) for t in means] == [([0.7], ["plain"]), ([0.76], ["finalist-1"])]
    assert means[1]["error_x"]["array"] == pytest.approx([0.02])


def test_quality_is_drawn_against_costs_that_differ() -> None:
    found = dict(tradeoffs(SweepView.from_records(COMPLETE)))
    assert list(found) == ["parameters"]  # all models have the same bytes
    front = traces(found["parameters"])["beaten by none"]
    assert list(front["x"]) == [1000.0, 1002.0, 1005.0, 1007.0]


def test_cells_keep_the_full_number_for_sorting() -> None:
    values = {attributes.get("data-value") for tag, attributes in Page(WHOLE).elements if tag == "td"}
    assert {str(journals.curve(7, 4)["spearman"]), str(journals.curve(7, 4)["loss"])} <= values
