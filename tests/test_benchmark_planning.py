"""The benchmark of `plait plan` runs to its end on a tiny corpus and writes its table. No figure is tested."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from .tree import ROOT


def test_prediction_and_run_stand_side_by_side(tmp_path):
    folder = tmp_path / "beir" / "tiny"
    folder.mkdir(parents=True)
    records = [{"_id": str(n), "title": "", "text": f"text {n} " + "of snow " * (1 + n % 7)} for n in range(30)]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (folder / "queries.jsonl").write_text('{"_id": "q", "text": "snow"}\n')
    command = [
        sys.executable, str(ROOT / "benchmarks" / "planning.py"), str(tmp_path), "tiny",
        "--strands", "lexical", "--sample", "9", "--results", str(tmp_path),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "COLUMNS": "100"})
    assert done.returncode == 0, done.stderr
    (found,) = json.loads((tmp_path / "planning.json").read_text())["found"]
    assert (found["collection"], found["strands"], found["documents"]) == ("tiny", "lexical", 30)
    for name in ("time", "size", "memory", "latency"):
        assert set(found[name]) == {"predicted", "actual"}
        assert min(found[name].values()) > 0
    assert found["queries"] == 1
    page = (tmp_path / "planning.md").read_text()
    assert page.count("| tiny, lexical: ") == 2  # time and size have targets
    assert page.count("| tiny, lexical | ") == 2  # and all four are told
