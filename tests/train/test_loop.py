"""Training: a step's gradient, going on after an interruption, and what ends it."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]

from plait.train import loop  # noqa: E402
from plait.train.batches import Batches, Step  # noqa: E402
from plait.train.errors import TrainError  # noqa: E402
from plait.train.heads import ACTIVATIONS, textbook_logits  # noqa: E402
from plait.train.loop import LOWEST_RATE, RATE_RISES, STATE, Material, Model, Training, _rate  # noqa: E402
from plait.train.losses import LOSSES, PENALTIES  # noqa: E402
from plait.train.model import Shape, SparseHead, Trunk  # noqa: E402
from plait.train.recipe import RECIPES  # noqa: E402
from plait.train.start import begin  # noqa: E402
from plait.train.states import Live, TorchLayers, keep  # noqa: E402

from . import tiny  # noqa: E402
from .making import training_set  # noqa: E402

CPU = torch.device("cpu")
SPECIALS = [0, 1, 2, 3, 4]
SMALL = {"documents": 6, "seeds": 2, "queries": 9, "steps": 8, "precision": "fp32", "terms": 0, "rate": 0.01}
DOCUMENTS = [np.array([2, *ids, 3]) for ids in np.random.default_rng(0).integers(5, 40, (12, 9))]
DOCUMENTS[3] = np.array([2, 3])
DOCUMENTS[4] = DOCUMENTS[4][:4]
QUERIES = [np.array([2, *document[1:4], 3]) for document in DOCUMENTS]
QUERIES[5] = np.array([2, 3])  # nothing but special tokens


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.base(tmp_path_factory.mktemp("loop") / "base")


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def the_recipe(name, **changes):
    plain = RECIPES[name]
    return plain.changed({**SMALL, "branch": min(plain.branch, 1), "rank": min(plain.rank, 6), **changes})


def teacher(queries, documents):
    table = np.random.default_rng(3).normal(size=(len(QUERIES), len(DOCUMENTS))).astype(np.float32) * 3
    return table[np.ix_(queries, documents)]


def training(folder, recipe, *, states=None, taught=True, dense=None):
    """Returns a training over made-up token ids, the same one every time."""
    torch.manual_seed(recipe.seed)
    trunk = Trunk(folder, recipe.branch)
    shape = Shape(recipe.branch, recipe.rank or None, recipe.activation, recipe.pooling, recipe.literal, recipe.gelu)
    head = SparseHead(trunk, shape, SPECIALS)
    model = Model(trunk, head, recipe, CPU)
    idf = np.random.default_rng(1).uniform(0.5, 4, len(trunk.words)).astype(np.float32)
    idf[SPECIALS] = 0
    texts = training_set([f"d{n}" for n in range(12)], [(f"q{n}", n) for n in range(12)])
    negatives = np.random.default_rng(2).integers(-1, 12, (12, 3)).astype(np.int32)
    material = Material(
        DOCUMENTS, QUERIES, idf, states or Live(trunk, DOCUMENTS, CPU), teacher if taught else None,
        Batches(texts, recipe, negatives), dense,
    )  # fmt: skip
    return Training(model, material, recipe)


def oracle(made, step):
    """Returns the total loss of a step by padding nothing, one text at a time, all of it dense."""
    recipe, model, material = made.recipe, made.model, made.material
    trunk, head = model.trunk, model.head

    def vectors(chosen):
        rows = []
        for ids in chosen:
            x, mask = torch.from_numpy(ids)[None], torch.ones(1, len(ids), dtype=torch.bool)
            states = head.states(trunk.below(x, mask), mask)[0]
            table = trunk.words if head.decoder is None else head.decoder
            logits = textbook_logits(head.transformed(states), [len(ids)], table, head.bias)[0]
            row = ACTIVATIONS[recipe.activation](logits)
            if head.literal is not None:
                own = (head.literal(states)[:, 0] + head.literal_bias[x[0]]).relu()
                places = torch.nn.functional.one_hot(x[0], len(row)) * own[:, None]
                row = row + places.max(dim=0).values
            rows.append(row * torch.tensor([word not in SPECIALS for word in range(len(row))]))
        return torch.stack(rows)

    def penalty(found):
        if recipe.penalty == "l0":
            found = found * ((found > 0).sum(dim=1) > recipe.tau)[:, None]
        return (found.mean(dim=0) ** 2).sum()

    documents = vectors([material.documents[at] for at in step.documents])
    if recipe.query_side == "encoded":
        queries = vectors([material.queries[at] for at in step.queries])
    else:
        queries = torch.zeros(len(step.queries), documents.shape[1])
        for row, at in enumerate(step.queries):
            for word in set(material.queries[at].tolist()):
                weight = float(material.idf[word])
                queries[row, word] = weight if recipe.query_side == "idf" else float(weight > 0)
    scores = queries @ documents.T * recipe.scale
    target = torch.from_numpy(teacher(step.queries, step.documents))
    positives = torch.from_numpy(step.positives)
    total = sum(weight * LOSSES[name](scores, target, positives) for name, weight in recipe.losses.items())
    warm = ((made.done + 1) / (recipe.steps * recipe.warm_up)) ** 2
    total = total + min(1.0, warm) * recipe.penalty_weight * penalty(documents)
    if recipe.query_penalty_weight:
        total = total + min(1.0, warm) * recipe.query_penalty_weight * penalty(queries)
    return total, float((documents > 0).sum() / len(documents))


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("splade", {}),
        ("splade", {"losses": {"margin_mse": 0.05}, "rank": 5, "literal": True, "branch": 1}),
        ("splade-doc", {}),
        ("inference-free", {"trunk": "tuned"}),
        ("inference-free-l0", {"tau": 12.0, "losses": {"infonce": 1.0}}),
    ],
    ids=str,
)
def test_a_steps_loss_and_gradient_are_those_of_the_plain_way(folder, name, changes, monkeypatch):
    monkeypatch.setattr(loop, "CLIP", 1e9)
    made = training(folder, the_recipe(name, penalty_weight=0.3, warm_up=1.0, **changes))
    step = made.material.batches(0)
    named = {f"head.{key}": value for key, value in made.model.head.named_parameters()}
    named |= {f"trunk.{key}": value for key, value in made.model.trunk.named_parameters() if value.requires_grad}
    total, terms = oracle(made, step)
    expected = torch.autograd.grad(total, list(named.values()), allow_unused=True)
    (measured,) = made.run(until=1)
    assert measured["loss"] == pytest.approx(float(total), rel=1e-4)
    assert measured["active"] == pytest.approx(terms)
    for (key, tensor), gradient in zip(named.items(), expected, strict=True):
        found = torch.zeros_like(tensor) if tensor.grad is None else tensor.grad
        wanted = torch.zeros_like(tensor) if gradient is None else gradient
        torch.testing.assert_close(found, wanted, rtol=2e-3, atol=2e-3 * float(wanted.abs().max() + 1e-4), msg=key)


def test_a_tied_decoder_teaches_the_word_table_of_a_tuned_trunk_alone(folder):
    for trunk in ("tuned", "frozen"):
        made = training(folder, the_recipe("splade-doc", trunk=trunk))
        before = made.model.trunk.words.detach().clone()
        list(made.run(until=2))
        assert torch.equal(before, made.model.trunk.words) == (trunk == "frozen")


@pytest.mark.parametrize("name", ["splade", "inference-free", "inference-free-l0"])
def test_a_resumed_training_is_the_uninterrupted_one_bit_for_bit(folder, name, tmp_path):
    recipe = the_recipe(name, steps=6)
    whole = training(folder, recipe)
    measured = list(whole.run())
    assert [one["step"] for one in measured] == [1, 2, 3, 4, 5, 6]
    first = training(folder, recipe)
    assert not first.resume(tmp_path)
    assert list(first.run(until=3)) == measured[:3]
    first.save(tmp_path)
    second = training(folder, recipe)
    assert second.resume(tmp_path)
    assert second.done == 3
    assert list(second.run()) == measured[3:]
    ours, theirs = second.model.tensors(), whole.model.tensors()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert [path.name for path in tmp_path.iterdir()] == [STATE]


def test_what_cannot_be_resumed_is_said(folder, tmp_path):
    first = training(folder, the_recipe("inference-free"))
    list(first.run(until=1))
    first.save(tmp_path)
    with pytest.raises(TrainError, match=r"state\.safetensors was made by another recipe \(other: rate, seed\): give "):
        training(folder, the_recipe("inference-free", rate=0.02, seed=2)).resume(tmp_path)
    content = (tmp_path / STATE).read_bytes()
    for damaged in (content[:-9], content.replace(b'"recipe"', b'"recipf"'), b""):
        (tmp_path / STATE).write_bytes(damaged)
        with pytest.raises(TrainError, match=r"state\.safetensors cannot be read \(.*\): remove it to begin anew$"):
            training(folder, the_recipe("inference-free")).resume(tmp_path)
    (tmp_path / STATE).write_bytes(content)
    other = training(folder, the_recipe("inference-free"))
    with pytest.raises(TrainError, match=r"^the checkpoint is of another recipe or model: begin anew"):
        other.model.load({"head.bias": torch.zeros(3)})


def test_a_loss_that_is_no_number_ends_the_training(folder):
    made = training(folder, the_recipe("inference-free"))
    with torch.no_grad():
        made.model.head.transform.bias[0] = torch.nan
    with pytest.raises(TrainError, match=r"^the loss of step 1 is not a number: lower `rate` or `layer_rate`$"):
        list(made.run())


def test_a_gradient_that_is_no_number_ends_it_before_a_weight_is_lost(folder):
    made = training(folder, the_recipe("inference-free"))
    before = made.model.head.bias.detach().clone()
    made.model.head.bias.register_hook(lambda gradient: gradient * torch.inf)
    with pytest.raises(TrainError, match=r"^the gradient of step 1 is not a number: lower `rate` or `layer_rate`$"):
        list(made.run())
    assert torch.equal(before, made.model.head.bias)


def test_kept_states_train_as_live_ones_do(folder, tmp_path):
    recipe = the_recipe("inference-free")
    live = training(folder, recipe)
    layers = TorchLayers(live.model.trunk, CPU, precise=True)
    kept = training(folder, recipe, states=keep(layers, DOCUMENTS, tmp_path, CPU))
    for one, other in zip(live.run(until=3), kept.run(until=3), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=0.02)


def test_bfloat16_is_near_and_reaches_the_trunk(folder, monkeypatch):
    seen = []
    monkeypatch.setattr(loop, "multiplies_bfloat16", lambda device: True)
    made = training(folder, the_recipe("splade-doc", precision="mixed"))
    layer = made.model.trunk.model.encoder.layer[0].intermediate.dense
    layer.register_forward_hook(lambda _module, _given, out: seen.append(out.dtype))
    precise = next(iter(training(folder, the_recipe("splade-doc")).run(until=1)))
    assert next(iter(made.run(until=1)))["loss"] == pytest.approx(precise["loss"], rel=0.1)
    assert set(seen) == {torch.bfloat16}


@pytest.mark.parametrize(
    ("known", "expected"),
    [({"avx512_bf16": True, "avx2": True}, True), ({"avx512_bf16": False, "avx2": True}, False), ({}, False)],
)
def test_bfloat16_is_for_processors_that_have_it(folder, monkeypatch, known, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: known, raising=False)
    assert loop.multiplies_bfloat16(CPU) is expected
    seen = []
    made = training(folder, the_recipe("splade-doc", precision="mixed"))
    layer = made.model.trunk.model.encoder.layer[0].intermediate.dense
    layer.register_forward_hook(lambda _module, _given, out: seen.append(out.dtype))
    next(iter(made.run(until=1)))
    assert set(seen) == {torch.bfloat16 if expected else torch.float32}


def step_of(made, *, documents, queries):
    positives = np.array(queries)[:, None] == np.array(documents)[None, :]
    step = Step(np.array(documents, np.int64), np.array(queries, np.int64), positives)
    made.material = Material(**{**vars(made.material), "batches": lambda number: step})
    return made


@pytest.mark.parametrize("name", ["splade", "splade-doc", "inference-free"])
@pytest.mark.parametrize(
    ("documents", "queries"), [([3], [3, 5]), ([0, 3, 4], [5]), ([0, 1, 2], [7, 8])], ids=["bare", "empty", "strange"]
)
def test_steps_of_little_or_nothing_have_a_finite_loss(folder, name, documents, queries):
    made = step_of(training(folder, the_recipe(name)), documents=documents, queries=queries)
    for measured in made.run(until=2):
        assert all(np.isfinite(list(measured.values())))


@pytest.mark.parametrize("literal", [True, False])
def test_a_step_without_an_active_term_goes_on(folder, literal):
    made = training(folder, the_recipe("inference-free", literal=literal))
    with torch.no_grad():
        made.model.head.bias.fill_(-1000)
        if literal:
            made.model.head.literal_bias.fill_(-1000)
    (measured,) = made.run(until=1)
    assert measured["active"] == 0
    assert np.isfinite(measured["loss"])


def test_queries_are_the_idf_of_their_distinct_words(folder):
    made = training(folder, the_recipe("inference-free"))
    made.material.queries[0] = np.array([2, 9, 30, 9, 3])
    columns, table, vectors = made._queries(np.array([0, 5]))
    assert vectors is None
    assert columns.tolist() == [9, 30]
    assert table.tolist() == [made.material.idf[[9, 30]].tolist(), [0.0, 0.0]]
    binary = training(folder, the_recipe("splade-doc"))
    assert binary._queries(np.array([0]))[1].tolist() == [[1.0, 1.0]]
    made.material.queries[0] = np.array([2, *DOCUMENTS[0][1:4], 3])


def test_encoded_queries_come_in_the_order_asked_for(folder):
    made = training(folder, the_recipe("splade"))
    asked = np.array([0, 3, 5, 7, 11])
    with torch.no_grad():
        columns, table, _ = made._queries(asked)
        for row, query in enumerate(asked.tolist()):
            alone = made.model.encode([query], QUERIES, Live(made.model.trunk, QUERIES, CPU))[0]
            torch.testing.assert_close(table[row], alone.gathered(columns)[0], rtol=1e-4, atol=1e-5)
            assert set(alone.columns.tolist()) <= set(columns.tolist())


def test_the_dense_vectors_of_a_tuned_trunk_are_kept_near(folder):
    recipe = the_recipe("inference-free", trunk="tuned", keep_dense=1.0)
    made = training(folder, recipe)
    with torch.no_grad():
        own = []
        for ids in DOCUMENTS:
            x, mask = torch.from_numpy(ids)[None], torch.ones(1, len(ids), dtype=torch.bool)
            mean = made.model.trunk.above(made.model.trunk.below(x, mask), mask)[0].mean(dim=0)
            own.append((mean / mean.norm()).numpy())
    dense = np.array(own, np.float32)
    (measured,) = training(folder, recipe, dense=dense).run(until=1)
    assert measured["dense"] == pytest.approx(0, abs=1e-5)
    (measured,) = training(folder, recipe, dense=-dense).run(until=1)
    assert measured["dense"] == pytest.approx(2, abs=1e-5)


def test_the_rate_rises_stays_and_falls():
    recipe = SimpleNamespace(steps=1000, decay=0.3)
    rates = [_rate(done, recipe) for done in (0, RATE_RISES - 1, 500, 700, 850, 999)]
    assert rates == pytest.approx([1 / RATE_RISES, 1, 1, 1, 0.5, LOWEST_RATE])
    assert _rate(999, SimpleNamespace(steps=1000, decay=0)) == 1


def test_everything_new_is_made_on_the_device_of_its_inputs(folder):
    """Without a GPU: what is made on no named device lands on `meta`, and cannot meet what is on the CPU."""
    for name in ("splade", "inference-free"):
        made = training(folder, the_recipe(name))
        step = made.material.batches(0)
        with torch.device("meta"):
            documents, order, _ = made.model.encode(step.documents.tolist(), DOCUMENTS, made.material.states)
            columns, queries, _ = made._queries(step.queries)
            scores = queries @ documents.gathered(columns).T
            target = torch.from_numpy(teacher(step.queries, order))
            losses = [loss(scores, target, torch.from_numpy(step.positives)) for loss in LOSSES.values()]
            total = sum(losses) + sum(penalty(documents, 3.0) for penalty in PENALTIES.values())
            total.backward()
            head, ids = made.model.head, torch.from_numpy(np.concatenate(DOCUMENTS))
            states = torch.randn(len(ids), 32, device="cpu")
            begin(head, made.model.trunk.words, states, ids, [len(one) for one in DOCUMENTS])
        assert total.device == CPU
        assert bool(total.isfinite())
