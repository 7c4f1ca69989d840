"""Figures on pages are those of the files they are from."""

import json

import pytest

from benchmarks import pages
from benchmarks.replicate import report, told
from benchmarks.replicate.rows import comparisons


@pytest.fixture
def results(tmp_path, monkeypatch):
    """A folder of results of their own."""
    monkeypatch.setattr(pages, "RESULTS", tmp_path)
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    pages.read.cache_clear()
    yield tmp_path
    pages.read.cache_clear()


@pytest.mark.parametrize("page", pages.pages(), ids=lambda page: str(page.relative_to(pages.ROOT)))
def test_pages_say_what_was_measured(page):
    """`python -m benchmarks.pages` writes them anew."""
    assert pages.filled(page.read_text()) == page.read_text()


def test_every_file_is_on_a_page():
    said = "".join(page.read_text() for page in pages.pages())
    assert {path.stem for path in pages.RESULTS.glob("*")} == {name for _, name, *_ in pages.PLACE.findall(said)}


def test_a_table(results):
    columns = [{"key": "n", "title": "n"}, {"key": "v", "title": "views/s", "format": ",.1f"}]
    rows = [{"n": "a", "v": 1234.56, "unused": 3}, {"n": "c"}]
    (results / "made_up.json").write_text(json.dumps({"how": "by hand", "columns": columns, "rows": rows}))
    page = "before\n<!-- results made_up -->\nold\n<!-- end -->\nafter"
    table = "| n | views/s |\n| --- | --- |\n| a | 1,234.6 |\n| c | |\n\nby hand"
    assert pages.filled(page) == f"before\n<!-- results made_up -->\n{table}\n<!-- end -->\nafter"
    assert pages.filled(pages.filled(page)) == pages.filled(page)


def test_a_value_in_a_line(results):
    (results / "cost.json").write_text(json.dumps({"values": {"n8": "4 %"}}))
    assert pages.filled("costs <!-- results cost.n8 -->9 %<!-- end --> more") == (
        "costs <!-- results cost.n8 -->4 %<!-- end --> more"
    )


def test_what_no_file_has(results):
    with pytest.raises(KeyError, match=r"no nothing\.json"):
        pages.filled("<!-- results nothing --><!-- end -->")


def test_check_names_the_page_and_changes_nothing(results, monkeypatch, capsys):
    (results / "cost.json").write_text(json.dumps({"values": {"n8": "4 %"}}))
    page = results / "README.md"
    page.write_text(stale := "<!-- results cost.n8 -->9 %<!-- end -->")
    monkeypatch.setattr(pages, "pages", lambda: [page])
    with pytest.raises(SystemExit) as ended:
        pages.Pages(check=True)()
    assert (ended.value.code, page.read_text()) == (1, stale)
    assert "out of date: README.md" in capsys.readouterr().out
    pages.Pages()()
    assert page.read_text() == "<!-- results cost.n8 -->4 %<!-- end -->"
    pages.Pages(check=True)()


def test_a_short_account_has_each_comparison_of_the_paper_once():
    found = json.loads(json.dumps(report.as_json({}, {"command": "c", "devices": "d", "versions": "v", "begun": "b"})))
    found["about"]["views a row"] = "1"
    lines = [line for line in told.brief(found).splitlines() if line.startswith("| ") and "---" not in line][1:]
    papers = {(g["of"], g["over"]) for g in found["gains"] if g["paper"] is not None}
    assert len(lines) == len(papers) < len(comparisons())
    assert sum(" attentive " in line for line in lines) == 2  # AB over SimCLR and DINO, of Table 1
