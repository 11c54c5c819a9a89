"""Java is found, checked and named before it is started; none of this needs Java."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest
from plait.index import StoreError, java
from plait.index.lucene import LuceneIndex


@pytest.fixture(autouse=True)
def no_java(monkeypatch, tmp_path):
    """A machine without Java: no variable names one, and PATH is an empty folder."""
    for name in (*java.HOMES, "ANSERINI_CLASSPATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(java, "USUAL", (str(tmp_path / "usual" / "*"),))


def some_java(folder: Path, release: str) -> Path:
    """A folder that looks like a Java's: its file `release`, and a program that is never run."""
    (folder / "bin").mkdir(parents=True)
    (folder / "release").write_text(release)
    (folder / "bin" / "java").write_text("#!/bin/sh\nexit 1\n")
    (folder / "bin" / "java").chmod(0o755)
    return folder


def test_without_java_the_error_says_what_to_install():
    with pytest.raises(StoreError, match=r"there is none: install Java 21 or newer .* set JAVA_HOME to its folder"):
        java.java_home()


def test_java_is_looked_for_in_this_order(monkeypatch, tmp_path):
    on_path = some_java(tmp_path / "found", 'JAVA_VERSION="21.0.1"\n')
    monkeypatch.setenv("PATH", str(on_path / "bin"))
    assert java.java_home() == on_path
    for name in reversed(java.HOMES):
        monkeypatch.setenv(name, str(tmp_path / name))
        assert java.java_home() == tmp_path / name


def test_the_usual_places_help_where_path_has_none_or_an_old_one(monkeypatch, tmp_path):
    some_java(tmp_path / "usual" / "a-21", 'JAVA_VERSION="21.0.1"\n')
    newest = some_java(tmp_path / "usual" / "b-25", 'JAVA_VERSION="25"\n')
    (tmp_path / "usual" / "empty").mkdir()
    assert java.java_home() == newest
    old = some_java(tmp_path / "old", 'JAVA_VERSION="17.0.15"\n')
    monkeypatch.setenv("PATH", str(old / "bin"))
    assert java.java_home() == newest
    fit = some_java(tmp_path / "fit", 'JAVA_VERSION="22"\n')
    monkeypatch.setenv("PATH", str(fit / "bin"))
    assert java.java_home() == fit
    monkeypatch.setattr(java, "USUAL", ())
    monkeypatch.setenv("PATH", str(old / "bin"))
    assert java.java_home() == old  # to be refused by its name


def test_who_has_no_home_folder_is_told_like_everybody(monkeypatch):
    monkeypatch.setattr(java, "USUAL", ("~/nowhere/java/*",))
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    with pytest.raises(StoreError, match="Lucene needs Java, and there is none"):
        java.java_home()


def test_a_link_on_path_leads_to_the_folder_behind_it(monkeypatch, tmp_path):
    there = some_java(tmp_path / "real", 'JAVA_VERSION="25"\n')
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "java").symlink_to(there / "bin" / "java")
    monkeypatch.setenv("PATH", str(tmp_path / "links"))
    assert java.java_home() == there


@pytest.mark.parametrize(
    ("release", "version"), [('JAVA_VERSION="21"', 21), ('A="1"\nJAVA_VERSION="25.0.3"\nB="2"', 25)]
)
def test_the_version_is_read_without_starting_it(release, version, tmp_path):
    assert java.java_version(some_java(tmp_path / "j", release)) == version


@pytest.mark.parametrize(
    ("release", "told"),
    [
        ('JAVA_VERSION="17.0.15"', "is Java 17: install Java 21 or newer"),
        ('JAVA_VERSION="1.8.0_402"', "is Java 8: install Java 21 or newer"),
        ("nothing", "is Java of unknown version: install Java 21"),
    ],
)
def test_an_old_java_is_refused_by_name(release, told, tmp_path):
    place = some_java(tmp_path / "old", release)
    with pytest.raises(StoreError, match=told) as refused:
        java.java_version(place)
    assert f"newer; {place} is" in str(refused.value)


def test_a_folder_without_java_is_named(tmp_path):
    with pytest.raises(StoreError, match=r"nowhere holds no Java that says its version \(no file `release`\)"):
        java.java_version(tmp_path / "nowhere")


def test_without_pyserini_the_error_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(StoreError, match=r'needs the package pyserini: pip install "plait\[lucene\]"'):
        java.anserini_jar()


def test_the_newest_archive_of_a_named_folder_is_taken(monkeypatch, tmp_path):
    monkeypatch.setenv("ANSERINI_CLASSPATH", str(tmp_path))
    with pytest.raises(StoreError, match=r"no anserini-.*-fatjar.jar in .*set ANSERINI_CLASSPATH to a folder with one"):
        java.anserini_jar()
    for age, name in enumerate(("other.jar", "anserini-1.10-fatjar.jar", "anserini-1.9-fatjar.jar")):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (1_000 - age, 1_000 - age))
    assert java.anserini_jar() == tmp_path / "anserini-1.10-fatjar.jar"


@pytest.mark.parametrize("place", ["missing", "empty"])
def test_a_folder_without_a_lucene_index_is_refused_before_java_starts(place, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        StoreError, match=rf"{place}: there is no Lucene index; give the folder that holds its file seg"
    ):
        LuceneIndex(tmp_path / place)
    assert not (tmp_path / "missing").exists()
