"""`tflite_smart report`: the page holds what `inspect` and `verify` say, needs nothing from elsewhere, and a name can't break it."""

from html.parser import HTMLParser
import json
import re

import numpy as np
import pytest

from tflite_smart.inspect_model import inspect_model
from tflite_smart.report import NUM_BINS, Histogram, histogram, make_report, render

VOID = {"meta", "br", "rect", "link", "img"}


class Page(HTMLParser):
    """The tags, the attributes and the words of a page; whether every tag is closed."""

    def __init__(self, text: str):
        super().__init__()
        self.open, self.tags, self.values, self.words = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.values += [(name, value) for name, value in attributes]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def report(smart_model):
    return make_report(smart_model)


def test_says_what_inspect_says(report, smart_model):
    page = Page(render(report))
    assert page.open == []
    rows = inspect_model(smart_model)
    assert len(rows) >= 2 and [row for row, _ in report.rows] == rows
    for row in rows:
        assert row.tensor in page.words and f"{row.bits_per_weight:.2f}" in page.words
    assert page.tags.count("figure") == len(rows) and page.tags.count("svg") == len(rows) + 1


def test_needs_nothing_from_elsewhere_and_is_the_same_every_time(report, smart_model):
    text = render(report)
    assert text == render(make_report(smart_model))
    assert not {"script", "link", "img", "iframe"} & set(Page(text).tags) and "http" not in text and "url(" not in text and "@import" not in text


def test_bars_are_as_long_as_the_sizes(report):
    text = render(report)
    lengths = {kind: [float(w) for w in re.findall(rf'<rect class="{kind}" x="300" y="\d+" width="([\d.]+)"', text)] for kind in ("plain", "stored", "alone")}
    rows = [row for row, _ in report.rows]
    scale = max(lengths["plain"]) / max(row.plain_bytes for row in rows)
    np.testing.assert_allclose(lengths["plain"], [scale * row.plain_bytes for row in rows], atol=0.5)
    np.testing.assert_allclose(lengths["stored"], [scale * row.stored_bytes for row in rows if row.codec], atol=0.5)
    assert len(lengths["alone"]) == sum(row.codec is None for row in rows)


def test_histograms():
    values = np.array([-1, 0, 0, 3, np.nan, np.inf], np.float32)
    bars = histogram(values)
    assert (bars.low, bars.high, bars.zeros) == (-1, 3, 0.5) and sum(bars.counts) == 4 and len(bars.counts) == NUM_BINS
    assert bars.counts[0] == 1 and bars.counts[-1] == 1 and bars.counts[NUM_BINS // 4] == 2
    assert histogram(None) is None and histogram(np.array([np.nan])) is None
    assert histogram(np.full(5, 2, np.int8)) == Histogram(tuple(5 * (i == NUM_BINS // 2) for i in range(NUM_BINS)), 1.5, 2.5, 0)


def test_names_can_not_break_the_page(make_model):
    model = make_model("<script>alert(1)</script>.tflite".replace("/", "_"))
    page = Page(render(make_report(model)))
    assert "script" not in page.tags and page.open == []


def test_command_line(cli, refused, smart_model, float_model, tmp_path):
    output = tmp_path / "r.html"
    done = cli("report", smart_model, "-o", output, "--against", float_model, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["report"] == str(output)
    words = Page(output.read_text()).words
    assert "float.tflite" in " ".join(words) and "16 random samples" in " ".join(words) and "scores" in words
    assert any(word.endswith(" dB") for word in words)
    assert "--overwrite" in refused("report", smart_model, "-o", output)
    assert "--against" in refused("report", smart_model, "-o", tmp_path / "other.html", "--inputs", "x.npz")
    assert not (tmp_path / "other.html").exists()
