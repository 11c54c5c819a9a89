"""What a search loads: the steps it takes, and none of what reads files, writes indexes or runs other steps."""

from __future__ import annotations

import subprocess
import sys

import pytest
from plait import retriever
from plait.retriever import STEPS, Document, Retriever

SEARCH = """
import sys
from plait.retriever import Retriever
with Retriever.open(sys.argv[1]) as found:
    sys.stdout.write(found.search("snow")[0].id + "\\n" + "\\n".join(sys.modules))
"""
OF_READING = {"ingest", "markup", "passages", "queries", "readers", "sources"}
OF_STEPS = {"adapt", "amplitude", "boosts", "collaborative", "diversity", "feedback", "fields", "rerank", "rescore"}


def modules_after(code, *arguments):
    """Returns the first line that a process says, and the modules it has loaded then."""
    code = f"import sys, plait.retriever\n{code}\nsys.stdout.write('\\n' + '\\n'.join(sys.modules))"
    said = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert said.stderr == ""
    first, *modules = said.stdout.splitlines()
    return first, set(modules)


def test_importing_loads_no_module_of_the_standard_library_that_only_files_or_threads_need():
    _, modules = modules_after("")
    assert modules & {"filelock", "logging", "concurrent.futures", "csv", "html", "asyncio", "scipy"} == set()


def test_a_search_loads_no_step_that_it_does_not_take(tmp_path):
    with Retriever.create(tmp_path / "i", strands="lexical") as made:
        made.add([Document("d", "snow")])
    first, modules = modules_after(SEARCH, str(tmp_path / "i"))
    assert first == "d"
    unwanted = {f"plait.retriever.{name}" for name in OF_READING | OF_STEPS}
    assert modules & (unwanted | {"plait.index.filters", "plait.encoders.cross", "filelock"}) == set()


@pytest.mark.parametrize("name", STEPS)
def test_every_step_is_where_its_row_says(name):
    assert STEPS[name].function.__name__ == name


def test_names_that_are_loaded_when_asked_for():
    from plait.retriever.ingest import read_documents

    assert retriever.read_documents is read_documents
    assert set(retriever.__all__) == set(dir(retriever))
    with pytest.raises(AttributeError, match="has no attribute 'read_everything'"):
        retriever.read_everything  # noqa: B018
