"""A training from files to a model, on a tiny base: every recipe, going on, and what may be wrong."""

from __future__ import annotations

import json

import numpy as np
import pytest
from plait.encoders import EncoderError, load_dense, load_joint, load_learned
from plait.retriever import Document, Retriever
from plait.train import TrainError, read_training, recipe_of, trim
from plait.train.judge import interval
from plait.train.prepare import collection_texts, divided, open_base
from plait.train.report import thinned
from safetensors.numpy import load_file, save_file

from . import tiny
from .making import ANSWERS, training_set

needs_torch = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]
SPARSE = ["splade", "splade-doc", "inference-free", "inference-free-l0", "plait-mini", "further"]


def the_recipe(name, **changes):
    plain = recipe_of(name)
    small = {"branch": min(plain.branch, 1), "rank": min(plain.rank, 8), **tiny.SMALL, **changes}
    return plain.changed(small)


@pytest.fixture(autouse=True)
def models(tmp_path, monkeypatch):
    monkeypatch.setenv("PLAIT_CACHE", str(tmp_path / "models"))


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """A dense base, one with a masked-LM head, pairs and a test collection."""
    pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("given")
    return {
        "dense": tiny.base(folder / "dense"),
        "masked": tiny.base(folder / "masked", masked=True),
        "pairs": tiny.pairs(folder / "pairs.jsonl"),
        "beir": tiny.beir(folder / "stories"),
    }


def run(name, given, out, *, base="dense", **options):
    from plait.train import train

    recipe = options.pop("recipe", None) or the_recipe(name)
    chosen = {"held_out": 6, "device": "cpu", "threads": 1, **options}
    return train(recipe, given["pairs"], base=given[base], out=out, **chosen)


@pytest.mark.parametrize("name", SPARSE)
class TestEveryRecipe:
    pytestmark = needs_torch

    def test_trains_and_its_model_is_searched_with(self, name, given, tmp_path):
        base = "masked" if name.startswith("splade") else "dense"
        report = run(name, given, tmp_path / "out", base=base, evaluate=[given["beir"]], evaluate_every=6)
        assert (report.finished, report.steps, len(report.losses)) == (True, 12, 12)
        assert [(one["step"], one["name"]) for one in report.history] == [(6, "held out"), (6, "stories")]
        assert [one["name"] for one in report.evaluation] == ["held out", "stories"]
        scores = report.evaluation[1]
        assert sorted(scores["ndcg"]) == ["dense", "fused", "learned", "lexical"]
        assert all(low <= scores["ndcg"][system] <= high for system, (low, high) in scores["intervals"].items())
        assert 0 < scores["flops"] <= min(scores["active"], scores["query_terms"])
        assert json.loads((tmp_path / "out" / "report.json").read_text()) == report.to_json()
        expected = "encoder" if name.startswith("splade") else "idf"
        assert load_learned(report.model).identity.query_weights == expected
        self.search(report.model, tmp_path / "index")

    def search(self, model, folder):
        joint = load_joint(model)
        assert load_dense(model).identity.dim == 32
        with Retriever.create(folder, learned=str(model), dense=str(model)) as retriever:
            retriever.add(Document(str(n), text) for n, text in enumerate(tiny.documents()))
            retriever.commit()
            hits = retriever.search("snow in winter", k=3, strands="learned,dense")
        assert len(hits) == 3
        assert joint.encode_documents(["snow"])[0].nnz > 0


TEXT = "Bees dance to tell the others where the flowers are, and how far."
STILL = {"rate": 0.0, "layer_rate": 0.0}


class TestGoingOnFromASparseHalf:
    pytestmark = needs_torch

    @pytest.mark.parametrize(
        "changes", [{}, {"terms": 2}, {"rank": 0, "gelu": True}, {"branch": 0, "literal": False}, {"pooling": "sum"}],
        ids=str,
    )  # fmt: skip
    def test_it_begins_with_the_bases_values(self, changes, given, tmp_path):
        first = run("", given, tmp_path / "first", recipe=the_recipe("inference-free", **changes))
        both, notes = {**given, "first": first.checkpoint}, []
        again = the_recipe("inference-free", **{**changes, **STILL, "terms": 5, "penalty": "l1", "seed": 7})
        second = run("", both, tmp_path / "second", recipe=again, base="first",
                     on_event=lambda event: notes.append(event.note))  # fmt: skip
        assert "the base's sparse half goes on" in notes
        files = (load_file(one.checkpoint / "model.safetensors") for one in (first, second))
        theirs, ours = files
        assert theirs.keys() == ours.keys()
        for name, tensor in theirs.items():
            np.testing.assert_array_equal(ours[name], tensor, err_msg=name)

    def test_it_learns_further_and_keeps_a_query_table(self, given, tmp_path):
        first = run("inference-free", given, tmp_path / "first")
        table = TestStaticQueries().recipe()
        both = {**given, "first": first.checkpoint}
        whole = run("", both, tmp_path / "whole", recipe=table, base="first")
        both["whole"] = whole.checkpoint
        second = run("inference-free", both, tmp_path / "second", base="whole")
        assert second.losses[0]["loss"] < first.losses[0]["loss"]
        assert load_dense(second.model, queries="static").encode_queries(["snow"]).any()
        tuned = the_recipe("inference-free", branch=0, trunk="tuned", steps=2)
        moved = run("", both, tmp_path / "tuned", recipe=tuned, base="whole")
        with pytest.raises(EncoderError, match="no static query table"):
            load_dense(moved.model, queries="static")
        assert [one["recipe"]["name"] for one in second.before] == ["inference-free", "static-query"]

    def test_a_half_of_another_make_is_begun_anew_and_told(self, given, tmp_path):
        first = run("inference-free", given, tmp_path / "first")
        both, notes = {**given, "first": first.checkpoint}, []
        recipe = the_recipe("inference-free", rank=6, literal=False)
        run("", both, tmp_path / "second", recipe=recipe, base="first", on_event=lambda event: notes.append(event.note))
        assert "a new sparse half: the base's is of another make (rank 8, literal True)" in notes

    def test_a_damaged_half_is_refused(self, given, tmp_path):
        first = run("inference-free", given, tmp_path / "first")
        path = first.checkpoint / "model.safetensors"
        save_file({name: tensor for name, tensor in load_file(path).items() if name != "sparse.norm.bias"}, path)
        with pytest.raises(TrainError, match=r"the base's sparse half cannot be read: .* no tensor 'sparse.norm.bias'"):
            run("inference-free", {**given, "first": first.checkpoint}, tmp_path / "second", base="first")

    def test_it_goes_on_from_a_built_model(self, given, tmp_path):
        first, notes = run("inference-free", given, tmp_path / "first", precision="fp32"), []
        recipe = the_recipe("inference-free", **STILL)
        second = run("", {**given, "built": first.model}, tmp_path / "second", recipe=recipe, base="built",
                     on_event=lambda event: notes.append(event.note))  # fmt: skip
        assert "the base's sparse half goes on" in notes
        assert second.base["name"] == "first"
        theirs, ours = (load_file(one.checkpoint / "model.safetensors") for one in (first, second))
        for name in (name for name in theirs if name.startswith("sparse.")):
            np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)


class TestTheBaseAsATeacher:
    pytestmark = needs_torch

    def recipe(self, **changes):
        teaching = {"teachers": {"base": 0.6, "bm25": 0.4}, "mining": ["lexical", "base"], "precision": "mixed"}
        return the_recipe("inference-free", **teaching, **changes)

    def phases(self, given, out, recipe):
        seen = []
        report = run("", given, out, recipe=recipe, on_event=lambda event: seen.append(event.phase))
        assert report.finished
        return set(seen)

    def test_frozen_layers_and_its_vectors_are_one_pass(self, given, tmp_path):
        seen = self.phases(given, tmp_path / "out", self.recipe())
        assert {"keeping states of frozen layers", "encoding queries, base"} <= seen
        assert "encoding documents, base" not in seen

    def test_a_trunk_that_learns_leaves_nothing_to_keep(self, given, tmp_path):
        seen = self.phases(given, tmp_path / "out", self.recipe(trunk="tuned", branch=0))
        assert {"encoding documents, base", "encoding queries, base"} <= seen
        assert "keeping states of frozen layers" not in seen

    def test_its_kept_vectors_are_the_encoders_own(self, given, tmp_path):
        training = divided(read_training(given["pairs"]), (), 0, 1).training
        import torch
        from plait.train.states import QuantisedLayers, keep

        base = open_base(given["dense"])
        layers = QuantisedLayers(base.checkpoint, 1)
        kept = keep(layers, base.ids(training.documents, 24), tmp_path, torch.device("cpu"))
        np.testing.assert_array_equal(
            kept.vectors, load_dense(given["dense"], max_length=24).encode_documents(training.documents)
        )


class TestStaticQueries:
    pytestmark = needs_torch

    def recipe(self, **changes):
        small = {name: value for name, value in tiny.SMALL.items() if name not in ("terms", "mining", "teachers")}
        return recipe_of("static-query", {**small, **changes})

    def test_a_table_is_put_beside_a_dense_model(self, given, tmp_path):
        report = run("", given, tmp_path / "out", recipe=self.recipe(), evaluate=[given["beir"]])
        assert (report.finished, report.steps) == (True, 12)
        assert sorted(report.evaluation[0]["ndcg"]) == ["dense", "dense, static queries"]
        assert "dense, static queries" in report.evaluation[1]["ndcg"]
        texts = tiny.words()
        static = load_dense(report.model, queries="static")
        np.testing.assert_array_equal(
            static.encode_documents(texts), load_dense(given["dense"]).encode_documents(texts)
        )
        np.testing.assert_allclose(np.linalg.norm(static.encode_queries(texts), axis=1), 1, atol=1e-5)

    def test_a_table_is_put_into_a_joint_model(self, given, tmp_path):
        joint = run("inference-free", given, tmp_path / "joint", held_out=0)
        both = {**given, "joint": joint.checkpoint}
        report = run("", both, tmp_path / "both", recipe=self.recipe(table_width=8), base="joint", held_out=0)
        texts = tiny.words()
        ours, theirs = (load_joint(one.model).encode_documents(texts) for one in (report, joint))
        np.testing.assert_array_equal(ours[0].toarray(), theirs[0].toarray())
        np.testing.assert_array_equal(ours[1], theirs[1])
        assert load_dense(report.model, queries="static").encode_queries(texts).shape == (len(texts), 32)

    def test_documents_are_encoded_only_where_a_loss_compares_scores(self, given, tmp_path):
        for losses, expected in ({}, set()), ({"kl": 1.0}, {"encoding documents, base"}):
            seen = []
            run("", given, tmp_path / f"{len(losses)}", recipe=self.recipe(losses=losses), held_out=0,
                on_event=lambda event, seen=seen: seen.append(event.phase))  # fmt: skip
            assert {phase for phase in seen if phase.startswith("encoding documents")} == expected

    def test_it_goes_on_too(self, given, tmp_path):
        whole = run("", given, tmp_path / "whole", recipe=self.recipe())
        seen = []
        stopped = run(
            "", given, tmp_path / "parts", recipe=self.recipe(), checkpoint_every=4,
            on_event=lambda event: seen.append(event.done) if event.values else None, stop=lambda: len(seen) == 6,
        )  # fmt: skip
        assert (stopped.finished, stopped.steps) == (False, 8)
        rest = run("", given, tmp_path / "parts", recipe=self.recipe())
        assert rest.losses == whole.losses
        assert rest.files["checkpoint/model.safetensors"] == whole.files["checkpoint/model.safetensors"]


class TestGoingOn:
    pytestmark = needs_torch

    def test_a_stopped_training_ends_as_one_that_was_not(self, given, tmp_path):
        whole = run("inference-free-l0", given, tmp_path / "whole")
        steps = []
        stopped = run(
            "inference-free-l0",
            given,
            tmp_path / "parts",
            on_event=lambda event: steps.append(event.done) if event.values else None,
            stop=lambda: len(steps) == 5,
        )
        assert (stopped.finished, stopped.steps, len(stopped.losses)) == (False, 5, 5)
        assert not (tmp_path / "parts" / "model").exists()
        rest = run("inference-free-l0", given, tmp_path / "parts")
        assert rest.losses == whole.losses
        assert rest.evaluation == whole.evaluation
        ours, theirs = (load_file(one.checkpoint / "model.safetensors") for one in (rest, whole))
        assert ours.keys() == theirs.keys()
        assert all(np.array_equal(ours[tensor], theirs[tensor]) for tensor in ours)

    def test_a_killed_training_goes_on_from_its_last_save(self, given, tmp_path):
        class KilledError(Exception):
            pass

        def kill(event):
            if event.values and event.done == 7:
                raise KilledError

        whole = run("inference-free", given, tmp_path / "whole")
        with pytest.raises(KilledError):
            run("inference-free", given, tmp_path / "killed", on_event=kill, checkpoint_every=4)
        seen = []
        rest = run(
            "inference-free", given, tmp_path / "killed", on_event=lambda e: seen.append(e.done) if e.values else None
        )
        assert seen[:2] == [5, 6]
        assert rest.losses == whole.losses
        assert rest.files["checkpoint/model.safetensors"] == whole.files["checkpoint/model.safetensors"]

    def test_a_finished_one_is_only_written_again(self, given, tmp_path):
        first = run("inference-free", given, tmp_path / "out")
        second = run("inference-free", given, tmp_path / "out")
        assert second.files == first.files
        assert second.losses == first.losses

    def test_what_concerns_no_step_may_change(self, given, tmp_path, monkeypatch):
        monkeypatch.setattr(trim, "ENOUGH", 30)
        first, texts = run("inference-free", given, tmp_path / "out"), tiny.documents()
        terms = load_learned(first.model).encode_documents(texts).nnz
        pruned = the_recipe("inference-free", prune=0.5, expansion=2.0, damping=0.25, encoder_length=16)
        second = run("", given, tmp_path / "out", recipe=pruned)
        assert second.losses == first.losses
        assert second.files["checkpoint/model.safetensors"] == first.files["checkpoint/model.safetensors"]
        encoder = load_learned(second.model)
        assert encoder.identity.max_length == 16
        assert encoder.identity.activation == "max+log1p+own>0.5*2/norm^0.25"
        assert load_learned(second.model, max_length=32).encode_documents(texts).nnz < terms
        told, rows = [], np.load(second.model / "terms.npy") if (second.model / "terms.npy").is_file() else range(10**9)
        quiet = the_recipe("inference-free", silent="english", used=3, full_layers=1, long_from=16)
        third = run("", given, tmp_path / "out", recipe=quiet, on_event=told.append)
        assert third.losses == first.losses
        assert [one.done for one in told if one.phase == "looking for what is not used"] == [34]
        assert 0 < len(np.load(third.model / "terms.npy")) < len(rows)
        facts = json.loads((third.model / "plait.json").read_text())
        assert facts["joint"]["silent"]
        assert (facts["joint"]["full_layers"], facts["joint"]["long_from"]) == (1, 16)
        assert facts["activation"] == "mean-merged-in@1>=16+l2"

    def test_more_layers_than_are_below_the_branch_are_refused_before_the_first_step(self, given, tmp_path):
        with pytest.raises(
            TrainError, match=r"^equal tokens merge in layer 9 \(full_layers\), but .*dense has 1 layers below"
        ):
            run("", given, tmp_path / "out", recipe=the_recipe("inference-free", full_layers=9))

    def test_another_recipe_base_or_data_is_refused(self, given, tmp_path):
        run("inference-free", given, tmp_path / "out")
        with pytest.raises(TrainError, match=r"begun with another recipe \(rate 0.01, now 0.5\).*--fresh"):
            run("", given, tmp_path / "out", recipe=the_recipe("inference-free", rate=0.5))
        with pytest.raises(TrainError, match="begun from another base"):
            run("inference-free", given, tmp_path / "out", base="masked")
        with pytest.raises(TrainError, match="begun with other data"):
            run("inference-free", given, tmp_path / "out", held_out=8)
        fresh = run("", given, tmp_path / "out", recipe=the_recipe("inference-free", rate=0.5), resume=False)
        assert fresh.recipe["rate"] == 0.5

    def test_a_folder_that_holds_something_else(self, given, tmp_path):
        (tmp_path / "mine.txt").write_text("mine")
        with pytest.raises(TrainError, match="is not empty and holds no training to go on with: give another folder"):
            run("inference-free", given, tmp_path)


class TestWhatIsMade:
    pytestmark = needs_torch

    def test_a_frozen_trunk_keeps_the_dense_half(self, given, tmp_path):
        report = run("inference-free", given, tmp_path / "out", precision="fp32")
        assert "unchanged" in report.dense
        base = load_dense(given["dense"], precision="fp32", max_length=32)
        ours = load_dense(report.model)
        np.testing.assert_allclose(ours.encode_documents(tiny.words()), base.encode_documents(tiny.words()), atol=1e-5)

    def test_a_tuned_trunk_is_held_near_the_base(self, given, tmp_path):
        held = the_recipe("inference-free", trunk="tuned", keep_dense=1.0, layer_rate=0.001)
        report = run("", given, tmp_path / "out", recipe=held)
        assert "held near the base's vectors (keep_dense 1)" in report.dense
        assert report.losses[0]["dense"] < 1e-5
        assert report.losses[-1]["dense"] > 0

    def test_trained_weights_come_with_the_model(self, given, tmp_path):
        report = run("", given, tmp_path / "out", recipe=the_recipe("inference-free", idf="trained"))
        learned = load_learned(report.model)
        assert learned.identity.query_weights == "encoder"
        row = learned.encode_queries(["snow the"]).toarray()[0]
        ids = open_base(given["dense"]).tokenizer
        assert row[ids.token_to_id("snow")] > row[ids.token_to_id("the")] > 0

    def test_the_card(self, given, tmp_path):
        report = run("inference-free", given, tmp_path / "out", licence="Apache-2.0", command="plait train x")
        text = (tmp_path / "out" / "MODEL_CARD.md").read_text()
        for part in ("Apache-2.0", "`plait train x`", "34 pairs over 34 documents", "losses.svg", '"tau": 200.0'):
            assert part in text
        assert all(digest in text for digest in report.files.values())
        picture = (tmp_path / "out" / "losses.svg").read_text()
        assert picture.startswith("<svg")
        assert picture.count("<polyline") == 2
        assert "prefers-color-scheme:dark" in picture

    def test_a_card_tells_of_the_trainings_before(self, given, tmp_path):
        joint = run("inference-free", given, tmp_path / "joint", command="plait train first")
        both = {**given, "joint": joint.checkpoint}
        table = TestStaticQueries().recipe()
        report = run("", both, tmp_path / "both", recipe=table, base="joint", command="plait train second")
        assert [one["recipe"]["name"] for one in report.before] == ["inference-free"]
        text = (tmp_path / "both" / "MODEL_CARD.md").read_text()
        assert text.index("`plait train second`") < text.index("## Before: inference-free") < text.index("train first")
        assert "(losses-1.svg)" in text
        assert (tmp_path / "both" / "losses-1.svg").read_text() == (tmp_path / "joint" / "losses.svg").read_text()
        again = run("", {**given, "both": report.checkpoint}, tmp_path / "third", recipe=table, base="both")
        assert [one["recipe"]["name"] for one in again.before] == ["inference-free", "static-query"]
        (joint.out / "report.json").write_text("{}")  # one that is of something else is not believed
        assert run("", both, tmp_path / "fourth", recipe=table, base="joint").before == []

    def test_what_cannot_be_trained(self, given, tmp_path):
        cases = [
            ({"base": "none"}, "the base cannot be used: no encoder 'none'"),
            ({"device": "tpu"}, "device is 'tpu', expected cpu or cuda"),
            ({"evaluate": [tmp_path]}, "cannot evaluate: .* is no BEIR folder"),
            ({"exclude": [tmp_path / "no"]}, "what is to be left out cannot be read"),
            ({"precision": "int4"}, "precision is 'int4', expected int8 or fp32"),
            ({"recipe": the_recipe("inference-free", rank=7)}, "rank is 7, expected an even number"),
            ({"recipe": the_recipe("inference-free", max_length=90)}, "max_length is 90, but .* at most 40 tokens"),
            ({"recipe": the_recipe("inference-free", teachers={"nobody": 1.0})}, "the teacher 'nobody' is unknown"),
            ({"recipe": the_recipe("inference-free", terms=99)}, "no word piece is in 99 of the training texts"),
        ]
        from plait.train import train

        for number, (changes, message) in enumerate(cases):
            options = {"recipe": the_recipe("inference-free"), "base": given["dense"], "device": "cpu", **changes}
            recipe = options.pop("recipe")
            with pytest.raises(TrainError, match=message):
                train(recipe, given["pairs"], out=tmp_path / f"out{number}", **options)

    def test_documents_alone_are_enough(self, given, tmp_path):
        from plait.train import train

        lines = (json.dumps({"id": str(n), "title": text.split(",")[0], "text": text * 2}) + "\n"
                 for n, text in enumerate(tiny.documents()))  # fmt: skip
        (tmp_path / "docs.jsonl").write_text("".join(lines))
        report = train(
            the_recipe("inference-free"), tmp_path / "docs.jsonl", base=given["dense"], out=tmp_path / "out",
            held_out=0, generate="title", device="cpu",
        )  # fmt: skip
        assert [one["kind"] for one in report.data["sources"]] == ["documents"]
        assert report.evaluation == () or list(report.evaluation) == []


def test_without_torch_the_extra_is_named(monkeypatch, tmp_path):
    import sys

    from plait.train import train

    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(TrainError, match=r'needs the package torch .*pip install "plait\[train\]"'):
        train("inference-free", tmp_path, base=tmp_path, out=tmp_path / "out")


def test_excluded_collections_are_left_out(tmp_path):
    folder = tiny.beir(tmp_path / "stories")
    texts = list(collection_texts(folder))
    assert "snow and winter go together in old stories." in texts
    assert "stories of snow" in texts
    pairs = [("stories of snow", 0), ("what makes honey", 1), ("what is a glacier", 2), ("what moves seas", 3)]
    found = divided(training_set(ANSWERS, pairs), [folder], 0, 1)
    assert (found.excluded, len(found.training), found.held) == (1, 3, None)


def test_a_broken_collection_to_leave_out(tmp_path):
    with pytest.raises(TrainError, match="what is to be left out cannot be read"):
        list(collection_texts(tmp_path / "missing"))


@pytest.mark.parametrize("name", [None, "embedded", "plait-mini"])
def test_the_embedded_model_is_a_base(name):
    base = open_base(name)
    assert base.folder.name == "plait-mini"
    ours = load_joint(base.folder)
    theirs = load_joint("plait-mini")
    (rows, vectors), (their_rows, their_vectors) = (one.encode_documents([TEXT]) for one in (ours, theirs))
    assert float((vectors * their_vectors).sum()) > 0.999
    assert float(rows.multiply(their_rows).sum() / np.sqrt(rows.power(2).sum() * their_rows.power(2).sum())) > 0.999


def test_intervals():
    assert interval([]) == (0.0, 0.0)
    assert interval([0.5] * 9) == (0.5, 0.5)
    low, high = interval([0.0, 1.0] * 50)
    assert 0.38 < low < 0.42
    assert 0.58 < high < 0.62


def test_losses_are_thinned_to_means():
    log = [{"step": n + 1, "loss": float(n)} for n in range(10)]
    assert thinned(log, 5) == [{"step": 2 * n + 2, "loss": 2 * n + 0.5} for n in range(5)]
    assert thinned([], 5) == []


def test_the_recipes_of_this_file_are_all_sparse_ones():
    from plait.train import RECIPES

    assert [name for name, recipe in RECIPES.items() if recipe.strand == "learned"] == SPARSE
