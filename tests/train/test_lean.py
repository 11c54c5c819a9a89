"""Training where equal tokens merge: what merges, that both halves are the built model's, and that they draw near."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st
from plait.encoders import load_dense, load_joint
from plait.train import TrainError, read_training, recipe_of
from plait.train.prepare import divided, open_base
from safetensors.numpy import load_file

from . import tiny
from .making import write_lines

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]

from plait.train import loop, train  # noqa: E402
from plait.train.export import rewritten, write_lean  # noqa: E402
from plait.train.lean import LeanTraining, merged, order_apart  # noqa: E402
from plait.train.states import padded  # noqa: E402

CPU = torch.device("cpu")
LONG = "the snow in the valley and the snow in the garden and the bees in the garden near the snow"  # 20 tokens
SMALL = {"steps": 40, "documents": 12, "full_layers": 1, "long_from": 16, "repeats": 0.2, "max_length": 32,
         "precision": "fp32", "rate": 1e-3, "layer_rate": 1e-3}  # fmt: skip
SHAPES = {
    "plain": {},
    "every word": {"rank": 0, "terms": 0, "gelu": True, "activation": "log1p_log1p"},
    "no own words": {"literal": False},
    "no branch": {"branch": 0},
}


@pytest.fixture(autouse=True)
def models(tmp_path, monkeypatch):
    monkeypatch.setenv("PLAIT_CACHE", str(tmp_path / "models"))


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """Bases, by name, and pairs with long and short documents, whose words come again."""
    folder = tmp_path_factory.mktemp("lean")
    random = np.random.default_rng(5)
    few = ["snow", "bees", "the", "in", "near", "garden", "valley"]
    lines = [
        {"query": f"what {thing} is like in the {tiny.PLACES[n // 10]}", "positive": " ".join([thing, *others])}
        for n, thing in enumerate(tiny.THINGS * 6)
        for others in [random.choice(few, 22 if n % 2 else 4)]
    ]
    made = {"pairs": write_lines(folder / "pairs.jsonl", lines), "dense": tiny.base(folder / "dense", layers=3)}
    made["other"] = tiny.base(folder / "other", seed=8)
    lively(made["dense"])
    for name, changes in SHAPES.items():
        recipe = recipe_of("inference-free").changed({**tiny.SMALL, "rank": 8, "steps": 2, **changes})
        made[name] = train(recipe, made["pairs"], base=made["dense"], out=folder / name, device="cpu").checkpoint
        if recipe.literal:
            heard = load_file(made[name] / "model.safetensors")["sparse.literal.bias"] + 4
            rewritten(made[name], {"sparse.literal.bias": heard})
    return made


def lively(folder):
    """Makes it matter where a word stands, which it hardly does in the tiny base."""
    tensors = load_file(folder / "model.safetensors")
    changed = {name: np.ones_like(tensors[name]) for name in tensors if name.endswith("LayerNorm.weight")}
    changed["embeddings.position_embeddings.weight"] = 4 * tensors["embeddings.position_embeddings.weight"]
    rewritten(folder, changed)


def the_recipe(**changes):
    return recipe_of("lean").changed({**SMALL, **changes})


def run(given, out, *, base="plain", **options):
    recipe = options.pop("recipe", None) or the_recipe()
    return train(recipe, given["pairs"], base=given[base], out=out, **{"device": "cpu", "threads": 1, **options})


def training(given, base="plain", recipe=None, **changes):
    texts = divided(read_training(given["pairs"]), [], 0, 1)
    cache = given["pairs"].parent / "cache"
    recipe = recipe or the_recipe(**changes)
    return LeanTraining(recipe, open_base(given[base]), texts, cache=cache, device=CPU, tell=lambda event: None)


def halves(model, ids):
    """Returns what a model in training makes of one text."""
    one, mask = padded([ids], CPU)
    with torch.no_grad():
        texts = merged(one, mask, model.recipe.long_from)
        return model.halves(model.merging(model.below(one, mask), mask, texts), texts.tokens, texts.counts)


@settings(deadline=None)
@drawn(st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=9), min_size=1, max_size=5), st.integers(0, 9))
def test_equal_tokens_of_long_texts_are_one(texts, long_from):
    found = merged(*padded([np.array(text) for text in texts], CPU), long_from)
    for row, text in enumerate(texts):
        keys = text if len(text) >= long_from else range(len(text))
        places = {}
        for place, key in enumerate(keys):
            places.setdefault(key, []).append(place)
        assert found.tokens[row, : len(places)].tolist() == [text[place] for place, *_ in places.values()]
        assert [one.nonzero()[:, 0].tolist() for one in found.members[row, : len(places)]] == list(places.values())
        assert not found.members[row, len(places) :].any()
        assert found.counts[row].sum() == len(text)


@pytest.mark.parametrize("base", SHAPES)
def test_what_is_trained_is_what_the_built_model_gives(base, given, tmp_path):
    made = training(given, base, steps=3)
    assert made.run(tmp_path / "state", every=10, stop=lambda: False)
    checkpoint = open_base(given[base])
    write_lean(tmp_path / "checkpoint", checkpoint, made.model.trunk, made.model.head, made.recipe)
    built = load_joint(str(tmp_path / "checkpoint"), precision="fp32")
    for text in (LONG, "snow in the valley", *tiny.words(4, seed=2)):
        ids = checkpoint.ids([text], 32)[0]
        ours = halves(made.model, ids)
        sparse, dense = built.encode_documents([text])
        np.testing.assert_allclose(dense[0], ours.dense[0], atol=1e-5)
        row, head = np.zeros(checkpoint.vocabulary), made.model.head
        row[np.arange(len(row)) if head.terms is None else head.terms.numpy()] = ours.terms[0].numpy()
        tokens = merged(*padded([ids], CPU), made.recipe.long_from).tokens[0].numpy()
        own = np.zeros_like(row)
        np.maximum.at(own, tokens, ours.own[0].numpy())
        assert own.any() == (base != "no own words")
        row += own
        row[checkpoint.specials] = 0
        np.testing.assert_allclose(sparse.toarray()[0], row, atol=1e-4)


def test_nothing_is_to_learn_where_nothing_merges(given):
    made = training(given, repeats=0.0)
    short = open_base(given["plain"]).ids(["snow in the valley", "bees"], 32)
    assert all(abs(float(value)) < 1e-6 for value in made._steps.distances(*padded(short, CPU)).values())
    long = open_base(given["plain"]).ids([LONG], 32)
    assert all(float(value) > 1e-4 for value in made._steps.distances(*padded(long, CPU)).values())


def test_it_draws_near_and_leaves_the_layers_below(given, tmp_path):
    report = run(given, tmp_path / "out", recipe=the_recipe(full_layers=2), held_out=6)
    assert (report.finished, report.steps) == (True, 40)
    assert list(report.losses[0]) == ["step", "loss", "dense", "states", "terms", "own"]
    first, last = (np.mean([one["loss"] for one in part]) for part in (report.losses[:5], report.losses[-5:]))
    assert last < 0.9 * first
    assert report.dense == "drawn to the base's vectors, where equal tokens of long texts merge in layer 2"
    before, after = (load_file(folder / "model.safetensors") for folder in (given["plain"], report.checkpoint))
    assert before.keys() == after.keys()
    moved = {name for name in before if not np.array_equal(before[name], after[name])}
    assert {name.split(".")[2] for name in moved if name.startswith("encoder.layer.")} == {"1", "2"}
    assert "sparse.transform.weight" in moved
    assert not any(name.startswith("embeddings.") or name == "sparse.terms" for name in moved)
    learned = load_joint(report.model).learned
    assert learned.identity.activation == "max-merged-in@2>=16+log1p+own+0.2ln"
    assert [one["name"] for one in report.evaluation] == ["held out"]
    text = (tmp_path / "out" / "MODEL_CARD.md").read_text()
    assert text.startswith("# lean, from plain/checkpoint")


def test_layers_below_may_learn_too(given, tmp_path):
    both = padded(open_base(given["plain"]).ids(["snow in the valley", LONG], 32), CPU)
    first, same = (training(given, full_layers=2, all_layers=every)._steps.distances(*both) for every in (False, True))
    assert {name: float(one) for name, one in first.items()} == pytest.approx({n: float(o) for n, o in same.items()})
    report = run(given, tmp_path / "out", recipe=the_recipe(full_layers=2, all_layers=True))
    first, last = (np.mean([one["loss"] for one in part]) for part in (report.losses[:5], report.losses[-5:]))
    assert last < 0.9 * first
    before, after = (load_file(folder / "model.safetensors") for folder in (given["plain"], report.checkpoint))
    moved = {name for name in before if not np.array_equal(before[name], after[name])}
    assert {name.split(".")[2] for name in moved if name.startswith("encoder.layer.")} == {"0", "1", "2"}
    assert not any(name.startswith("embeddings.") for name in moved)


def test_a_query_table_and_what_finishes_the_base_stay(given, tmp_path):
    finished = recipe_of("inference-free").changed(
        {**tiny.SMALL, "rank": 8, "steps": 2, "prune": 0.1, "idf": "trained"}
    )
    base = run(given, tmp_path / "base", base="dense", recipe=finished)
    table = recipe_of("static-query").changed({"steps": 3, "queries": 8, "max_length": 24, "encoder_length": 32})
    both = {**given, "base": base.checkpoint}
    both["table"] = run(both, tmp_path / "table", base="base", recipe=table).checkpoint
    report = run(both, tmp_path / "out", base="table", recipe=the_recipe(steps=2))
    assert load_dense(report.model, queries="static").encode_queries(["snow"]).any()
    assert ">0.1" in load_joint(report.model).learned.identity.activation
    assert load_joint(report.model).learned.identity.query_weights == "encoder"
    assert [one["recipe"]["name"] for one in report.before] == ["inference-free", "static-query"]


def test_a_stopped_one_ends_as_one_that_was_not(given, tmp_path):
    short, steps = the_recipe(steps=6), []
    whole = run(given, tmp_path / "whole", recipe=short)
    stopped = run(given, tmp_path / "parts", recipe=short, stop=lambda: len(steps) == 4,
                  on_event=lambda event: steps.append(event.done) if event.values else None)  # fmt: skip
    assert (stopped.finished, stopped.steps, len(stopped.losses)) == (False, 4, 4)
    with pytest.raises(TrainError, match=r"begun with another recipe \(repeats 0.2, now 0.3\)"):
        run(given, tmp_path / "parts", recipe=the_recipe(steps=6, repeats=0.3))
    rest = run(given, tmp_path / "parts", recipe=short)
    assert rest.losses == whole.losses
    name = "checkpoint/model.safetensors"
    assert rest.files[name] == whole.files[name]


def test_a_step_has_texts_of_each_kind_there_is(given):
    made = training(given, documents=9)
    sizes = [len(one) for one in made._steps.drawn(0)]
    assert len(sizes) == 11  # 5 long documents, 3 short, 3 queries: shares are rounded up
    assert min(sizes[:5]) >= 16 > max(sizes[5:])
    assert all(map(np.array_equal, made._steps.drawn(1), made._steps.drawn(1)))
    everything = training(given, long_from=0)
    assert everything._steps._pools[1] == []
    assert len(everything._steps.drawn(0)) == 9


@pytest.mark.parametrize(
    ("base", "changes", "said"),
    [
        ("dense", {}, "recipe lean is for a joint model, but the base is none: .* has no 'plait'"),
        (
            "plain",
            {"full_layers": 3},
            r"equal tokens merge in layer 3 \(full_layers\), but .* has 2 layers below the branch",
        ),
        ("plain", {"long_from": 33}, r"no document has 33 tokens, .*\(long_from\), in the 32 that are read"),
    ],
)
def test_what_cannot_be_made_lean(base, changes, said, given, tmp_path):
    with pytest.raises(TrainError, match=said):
        run(given, tmp_path / "out", base=base, recipe=the_recipe(**changes))


def test_a_base_that_merges_or_pools_by_a_sum_is_refused(given, tmp_path):
    lean = run(given, tmp_path / "lean", recipe=the_recipe(steps=1))
    with pytest.raises(TrainError, match=r"merge in layer 1 of .* already: give the model that it was made from"):
        run({"pairs": given["pairs"], "lean": lean.model}, tmp_path / "again", base="lean")
    summed = recipe_of("inference-free").changed({**tiny.SMALL, "rank": 8, "steps": 1, "pooling": "sum"})
    base = run(given, tmp_path / "summed", base="dense", recipe=summed)
    with pytest.raises(TrainError, match="the base's sparse half pools by 'sum', its dense half by 'mean'"):
        run({"pairs": given["pairs"], "sum": base.checkpoint}, tmp_path / "more", base="sum")


def test_a_training_that_leaves_the_trunk_leaves_what_merges(given, tmp_path):
    lean = run(given, tmp_path / "lean", recipe=the_recipe(steps=1))
    both, texts = {**given, "lean": lean.checkpoint}, [LONG, *tiny.words()]
    first = load_dense(str(lean.checkpoint), precision="fp32").encode_documents(texts)
    more = recipe_of("inference-free").changed({**tiny.SMALL, "rank": 8, "steps": 2})
    second = run(both, tmp_path / "second", base="lean", recipe=more)
    np.testing.assert_array_equal(load_dense(str(second.checkpoint), precision="fp32").encode_documents(texts), first)
    assert load_joint(second.model).learned.identity.activation == "max-merged-in@1>=16+log1p+own+0.2ln"
    for number, changes in enumerate(({"full_layers": 0}, {"trunk": "tuned"}, {"pooling": "sum"})):
        apart = run(both, tmp_path / f"apart{number}", base="lean", recipe=more.changed(changes))
        assert load_dense(apart.model).identity.activation == "mean+l2"
    with pytest.raises(TrainError, match=r"equal tokens merge in layer 1 \(full_layers\), but .* has 0 layers below"):
        run(both, tmp_path / "deep", base="lean", recipe=more.changed({"branch": 3}))


def test_bfloat16_is_near(given, monkeypatch):
    ids = open_base(given["plain"]).ids([LONG, "snow in the valley"], 32)
    precise = training(given)._steps.distances(*padded(ids, CPU))
    monkeypatch.setattr(loop, "multiplies_bfloat16", lambda device: True)
    near = training(given, precision="mixed")._steps.distances(*padded(ids, CPU))
    assert {name: float(value) for name, value in near.items()} == pytest.approx(
        {name: float(value) for name, value in precise.items()}, rel=0.2, abs=0.01
    )
    sum(near.values()).backward()


def taught(given, **changes):
    """Returns a recipe that learns from another model, which is as random as the base."""
    teachers = {"base": 0.2, str(given["other"]): 0.8}
    small = {**SMALL, "rate": 3e-3, "layer_rate": 3e-3, "seeds": 3, "teachers": teachers}
    return recipe_of("taught").changed({**small, **changes})


def alikeness(folder, texts):
    """Returns how alike a model's dense half finds texts, each with each other."""
    vectors = load_dense(str(folder), precision="fp32").encode_documents(texts)
    moved = vectors - vectors.mean(axis=0)
    moved /= np.linalg.norm(moved, axis=1, keepdims=True)
    return (moved @ moved.T)[np.triu_indices(len(texts), 1)]


def test_the_divergence_of_orders_is_that_of_softmaxes():
    random = np.random.default_rng(2)
    vectors, wanted = random.normal(size=(5, 4)).astype(np.float32), random.normal(size=(5, 3)).astype(np.float32)
    total = 0.0
    for row in range(5):
        kept = [column for column in range(3) if column != row]
        scores = [np.exp(2.5 * vectors[row] @ vectors[column]) for column in kept]
        aims = [np.exp(wanted[row, column]) for column in kept]
        pairs = [(aim / sum(aims), score / sum(scores)) for aim, score in zip(aims, scores, strict=True)]
        total += sum(aim * np.log(aim / score) for aim, score in pairs) / 5
    found = order_apart(torch.from_numpy(vectors), torch.from_numpy(wanted), 2.5)
    assert float(found) == pytest.approx(total, rel=1e-4)
    same = torch.from_numpy(2.5 * vectors @ vectors[:3].T + 7)
    assert float(order_apart(torch.from_numpy(vectors), same, 2.5)) == pytest.approx(0, abs=1e-5)


def test_it_learns_what_others_find_alike_and_holds_the_sparse_half(given, tmp_path):
    report = run(given, tmp_path / "out", recipe=taught(given, steps=120, full_layers=2), held_out=6)
    assert list(report.losses[0]) == ["step", "loss", "order", "dense", "terms", "own"]
    first, last = (np.mean([one["order"] for one in part]) for part in (report.losses[:5], report.losses[-5:]))
    assert last < 0.6 * first
    texts = read_training(given["pairs"]).documents
    wanted = alikeness(given["other"], texts)
    before, after = (np.corrcoef(alikeness(one, texts), wanted)[0, 1] for one in (given["plain"], report.checkpoint))
    assert after > before + 0.05
    assert report.losses[-1]["terms"] < 0.5
    assert report.dense.startswith("learned which texts are alike from base (0.2), ")
    assert report.dense.endswith("where equal tokens of long texts merge in layer 2")
    kept, now = (load_file(folder / "model.safetensors") for folder in (given["plain"], report.checkpoint))
    moved = {name for name in kept if not np.array_equal(kept[name], now[name])}
    assert {name.split(".")[2] for name in moved if name.startswith("encoder.layer.")} == {"1", "2"}
    learned, dense = report.evaluation
    assert list(learned["ndcg"]) == ["learned"]
    assert list(dense["ndcg"]) == ["dense", "dense, the base"]


def test_a_stopped_lesson_ends_as_one_that_was_not(given, tmp_path):
    short, steps = taught(given, steps=5), []
    whole = run(given, tmp_path / "whole", recipe=short)
    stopped = run(given, tmp_path / "parts", recipe=short, stop=lambda: len(steps) == 2,
                  on_event=lambda event: steps.append(event.done) if event.values else None)  # fmt: skip
    assert (stopped.finished, stopped.steps) == (False, 2)
    rest = run(given, tmp_path / "parts", recipe=short)
    assert rest.losses == whole.losses
    name = "checkpoint/model.safetensors"
    assert rest.files[name] == whole.files[name]


def test_a_base_that_merges_is_taught_as_it_merges(given, tmp_path):
    lean = run(given, tmp_path / "lean", recipe=the_recipe(steps=2))
    both = {**given, "lean": lean.checkpoint}
    made = training(both, "lean", taught(given, losses={"order": 1.0, "dense": 1.0, "states": 1.0, "terms": 1.0}))
    ids = open_base(lean.checkpoint).ids([LONG, "snow in the valley"], 32)
    assert all(abs(float(value)) < 1e-6 for value in made._steps.distances(*padded(ids, CPU)).values())
    report = run(both, tmp_path / "out", base="lean", recipe=taught(given, steps=2))
    assert load_joint(report.model).learned.identity.activation == "max-merged-in@1>=16+log1p+own+0.2ln"
    said = r"merge in layer 1 of .* already, and the recipe has full_layers 2, repeats 0.1: "
    with pytest.raises(TrainError, match=said + "say --set full_layers=1 --set repeats=0.2"):
        run(both, tmp_path / "more", base="lean", recipe=taught(given, full_layers=2, repeats=0.1))


def test_short_texts_alone_can_be_taught(given, tmp_path):
    report = run(given, tmp_path / "out", recipe=taught(given, steps=2, long_from=33))
    assert report.finished


@pytest.mark.parametrize(
    ("teachers", "said"),
    [
        ({"base": 0.5, "bm25": 0.5}, "the teacher 'bm25' is lexical: the loss order takes dense encoders"),
        ({"no/such": 1.0}, "the teacher 'no/such' is unknown"),
    ],
)
def test_teachers_that_teach_nothing_are_refused(teachers, said, given, tmp_path):
    with pytest.raises(TrainError, match=said):
        run(given, tmp_path / "out", recipe=taught(given, teachers=teachers))


def test_without_teachers_nothing_begins(given, tmp_path):
    with pytest.raises(TrainError, match="learns from other encoders, and teachers names none: give some, as in --set"):
        run(given, tmp_path / "out", recipe=taught(given, teachers={"base": 1.0}))
    assert not (tmp_path / "out").exists()
