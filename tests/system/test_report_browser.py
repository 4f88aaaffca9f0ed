"""The report in a real browser: everything is drawn, tables sort, nothing is fetched, and hostile names stay text."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from raysweep.journal import FILE, records
from raysweep.report import write_report
from tests import journals

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-component-update "
    "--disable-sync --window-size=1200,3000 --remote-debugging-pipe"
)
NASTY = "</script><img src=http://127.0.0.1:9/x onerror=window.broken=1><script>window.broken=1</script>"

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")


class Browser:
    """Chromium's debugging protocol over a pair of pipes: JSON messages that end in a zero byte."""

    def __init__(self, profile: Path) -> None:
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        command = f'exec "$0" {FLAGS} --user-data-dir="$1" 3<&{theirs_in} 4>&{theirs_out}'
        self._process = subprocess.Popen(
            ["bash", "-c", command, str(CHROMIUM), str(profile)],
            pass_fds=(theirs_in, theirs_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._rest, self._number, self._session = b"", 0, {}
        self.events: list[dict[str, Any]] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = {"sessionId": self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]}
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters, **self._session}
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while (answer := self._receive()).get("id") != self._number:
            self.events.append(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def open(self, path: Path) -> None:
        self.send("Page.navigate", url=path.as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(self._receive())

    def run(self, script: str) -> Any:
        answer = self.send("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._in)
        os.close(self._out)

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            part = os.read(self._in, 1 << 20)
            assert part, "the browser has gone"
            self._rest += part
        message, _, self._rest = self._rest.partition(b"\0")
        return dict(json.loads(message))


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    opened = Browser(tmp_path / "profile")
    yield opened
    opened.close()


@pytest.fixture
def report(tmp_path: Path) -> Path:
    """The report of a sweep whose settings, errors and arms try to break out."""
    folder = journals.write(tmp_path / "sweep", journals.sweep())
    lines = []
    for record in records(folder / FILE):
        for config in [record.get("config"), *(arm["config"] for arm in record.get("arms", []))]:
            if config:
                config[NASTY] = f"{NASTY}{record.get('number', 0)}"
        lines.append({**record, "error": NASTY} if record["kind"] == "failed" else record)
    (folder / FILE).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return write_report(folder)


def test_the_report_is_drawn_without_a_single_request_or_error(browser: Browser, report: Path) -> None:
    browser.open(report)
    figures = browser.run("document.querySelectorAll('[data-figure]').length")
    assert figures >= 6
    assert browser.run("document.querySelectorAll('[data-figure] svg.main-svg .xy').length") >= figures
    requested = {event["params"]["request"]["url"] for event in browser.events if "request" in event.get("params", {})}
    assert {url for url in requested if not url.startswith(("data:", "blob:"))} == {report.as_uri()}
    complaints = [event for event in browser.events if event["method"] in ("Runtime.exceptionThrown", "Log.entryAdded")]
    assert complaints == []


def test_hostile_names_stay_text(browser: Browser, report: Path) -> None:
    browser.open(report)
    assert browser.run("window.broken === undefined")
    assert browser.run("document.querySelectorAll('img').length") == 0
    assert browser.run("document.body.innerText.includes('onerror=window.broken=1')")


def test_a_click_on_a_head_sorts_the_trials(browser: Browser, report: Path) -> None:
    browser.open(report)
    column = "[...document.querySelectorAll('table.sortable tbody tr')].map(row => row.cells[3].dataset.value ?? '')"
    click = "document.querySelectorAll('table.sortable th button')[3].click()"
    browser.run(click)
    rising = [float(value) for value in browser.run(column) if value]
    browser.run(click)
    falling = browser.run(column)
    assert rising == sorted(rising)
    assert [float(value) for value in falling if value] == rising[::-1]
    assert falling[-1] == ""  # a trial without a value is last either way
    assert len(falling) == 12
