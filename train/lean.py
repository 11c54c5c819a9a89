"""Training of a joint model whose equal tokens merge: both halves learn to give what they give where none does.

In some layer equal tokens of a long text become one row, their mean (`plait.encoders.joint_checkpoint`): two fifths of
a passage's tokens go, and so does the work of the layers above. These were never trained on such rows. So they learn it
here, with the model that merges nothing as the teacher: for any text the dense vector, the term weights, the
weights of own words, and what each token leaves the last layer with are drawn to the teacher's. It needs no queries and
no judgements. Short texts take part, as nothing merges in them: what is learned must leave them as they are.

Layers below the merging have the same to do in both, so they stay, and run once for both; a recipe may let all layers
learn (`all_layers`).

With the loss "order" the dense half learns more than its base knows: which texts other encoders find alike, larger ones
as a rule (`plait.train.alike`). The vectors move then, and the sparse half is held where it was. Such a training may
start from a model whose equal tokens merge, and so does its teacher then.
"""

# pyright: reportMissingImports=false
# (torch is an extra: types are checked without it)

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..encoders.contract import EncoderError
from ..encoders.joint_checkpoint import read_sparse_half
from .alike import Alike
from .errors import TrainError
from .events import STEPS, Event, Tell
from .heads import ACTIVATIONS
from .learned import LOG
from .loop import Model, Steps
from .model import SparseHead, Trunk, after_attention, through
from .prepare import Encodings
from .recipe import MERGING
from .report import read_log, write_log
from .start import go_on, shape_of
from .states import grouped, padded

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..encoders.joint_checkpoint import SparseHalf
    from .prepare import Base, Texts
    from .recipe import Recipe

    Ids = Sequence[NDArray[np.int64]]

SHARES = (2, 1, 1)  # of a step's texts: long documents, short documents, queries
_TINY, _NEVER = 1e-9, -1e9


class Merged(NamedTuple):
    """What is left of some texts where equal tokens merge.

    Attributes:
        tokens: int64 (texts, n), in the order of their first places; anything where none is left.
        members: float32 (texts, n, length), 1 for the tokens that each stands for.
    """

    tokens: Tensor
    members: Tensor

    @property
    def counts(self) -> Tensor:
        """How many tokens each stands for, (texts, n); 0 where none is left."""
        return self.members.sum(dim=2)

    @property
    def shares(self) -> Tensor:
        """What makes means of tokens, (texts, n, length)."""
        return self.members / self.counts[:, :, None].clamp(min=1)


def merged(ids: Tensor, mask: Tensor, long_from: int) -> Merged:
    """Returns texts, int64 (texts, length), with their mask; equal tokens of those long enough are one."""
    alone = torch.eye(ids.shape[1], dtype=torch.bool, device=ids.device)
    long = (mask.sum(dim=1) >= long_from)[:, None, None]
    same = ((ids[:, :, None] == ids[:, None, :]) & (long | alone)) & mask[:, :, None] & mask[:, None, :]
    first = mask & ~same.tril(-1).any(dim=2)
    places = (~first).to(torch.uint8).argsort(dim=1, stable=True)[:, : int(first.sum(dim=1).max())]
    members = same.gather(1, places[:, :, None].expand(-1, -1, ids.shape[1])) & first.gather(1, places)[:, :, None]
    return Merged(ids.gather(1, places), members.float())


class Halves(NamedTuple):
    """What a model makes of some texts.

    Attributes:
        dense: (texts, width), at length one.
        last: (texts, n, width), what leaves the last layer of the dense half.
        terms: (texts, rows), activated expansion terms.
        own: (texts, n), the weights of tokens as terms of their own; zero where they have none.
    """

    dense: Tensor
    last: Tensor
    terms: Tensor
    own: Tensor


class JointModel(Model):
    """A trunk, a sparse half that goes on from a base's, and what both make of tokens that stand for several.

    Args:
        base: a joint model.
        half: its sparse half.
        recipe: precision, rates, and what merges above which layer.
        device: where to compute.

    Attributes:
        base_merges: whether equal tokens merge in the base.
    """

    def __init__(self, base: Base, half: SparseHalf, recipe: Recipe, device: torch.device) -> None:
        self.base_merges = half.full_layers is not None
        shape = shape_of(half)
        trunk = Trunk(base.folder, shape.branch)
        terms = None if half.terms is None else torch.from_numpy(half.terms.astype(np.int64))
        head = SparseHead(trunk, shape, base.specials, terms)
        go_on(head, half, base.checkpoint)
        super().__init__(trunk, head, recipe, device)
        self._apart = trunk.layers[: recipe.full_layers - 1]
        trunk.model.embeddings.requires_grad_(False)
        if not recipe.all_layers:
            self._apart.requires_grad_(False)
        silent = [] if half.silent is None else half.silent.tolist()
        self._silent = torch.tensor(silent, dtype=torch.int64, device=device)
        self._mute = torch.tensor([*base.specials, *silent], device=device)

    def below(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Returns the states that enter the layer in which tokens merge, (texts, length, width)."""
        return through(self._apart, self.trunk.model.embeddings(input_ids=ids), mask)

    def merging(self, below: Tensor, mask: Tensor, texts: Merged | None) -> Tensor:
        """Returns the states that leave that layer, (texts, n, width).

        Args:
            below: (texts, length, width), see `below`.
            mask: (texts, length), true where there is a token.
            texts: what is left of them; None: every token.
        """
        layer = self.trunk.layers[self.recipe.full_layers - 1]
        if texts is None:
            return through([layer], below, mask)
        with after_attention(layer, lambda rows: torch.bmm(texts.shares.to(rows.dtype), rows)):
            return through([layer], below, mask)

    def halves(self, states: Tensor, tokens: Tensor, counts: Tensor) -> Halves:
        """Returns what both halves make of texts.

        All logits are held, (texts, n, rows): a group of texts is small.

        Args:
            states: (texts, n, width), see `merging`.
            tokens: int64 (texts, n).
            counts: (texts, n), how many tokens each row stands for; 0 for padding.
        """
        trunk, head, there = self.trunk, self.head, counts > 0
        seen = torch.where(there, counts.clamp(min=1).log(), _NEVER)
        fork = through(trunk.layers[self.recipe.full_layers : trunk.shared], states, seen)
        last, branch = trunk.above(fork, seen).float(), head.states(fork, seen)
        dense = torch.nn.functional.normalize((last * counts[:, :, None]).sum(dim=1), dim=1)
        heard = there & ~torch.isin(tokens, self._silent)
        heard[:, 0] |= ~heard.any(dim=1)
        logits = head.transformed(branch) @ head.table(trunk.words).T
        largest = logits.float().masked_fill(~heard[:, :, None], _NEVER).amax(dim=1)
        terms = ACTIVATIONS[head.shape.activation]((largest + head.bias).relu())
        if head.literal is None or head.literal_bias is None:
            return Halves(dense, last, terms, last.new_zeros(counts.shape))
        score = head.literal(branch).squeeze(2).float() + head.literal_bias[tokens]
        own = (score + self.recipe.repeats * counts.clamp(min=1).log()).relu()
        return Halves(dense, last, terms, own * (there & ~torch.isin(tokens, self._mute)))


class LeanSteps(Steps):
    """Steps towards what a teacher gives; each depends on the recipe, the seed and its number alone.

    Args:
        model: what learns.
        teacher: what it learns from.
        pools: token ids of the texts of each kind, see `SHARES`.
        recipe: how.
    """

    model: JointModel

    def __init__(self, model: JointModel, teacher: JointModel, pools: Sequence[Ids], recipe: Recipe) -> None:
        super().__init__(model, recipe)
        self._teacher, self._pools = teacher, pools

    def run(self, until: int | None = None) -> Iterator[dict[str, float]]:
        """Yields what each step measured: the distances, as shares of what the teacher gives."""
        last = self._last(until)
        while self.done < last:
            measured = self._step()
            self.done += 1
            yield {"step": self.done, **measured}

    def drawn(self, number: int) -> list[NDArray[np.int64]]:
        """Returns the texts of a step; where there are none of a kind, it has as many less."""
        random, whole = np.random.default_rng([self.recipe.seed, number]), sum(SHARES)
        chosen: list[NDArray[np.int64]] = []
        for pool, share in zip(self._pools, SHARES, strict=True):
            count = min(-(-self.recipe.documents * share // whole), len(pool))
            chosen += [pool[at] for at in random.choice(len(pool), count, replace=False)] if count else []
        return chosen

    def _step(self) -> dict[str, float]:
        texts, found = self.drawn(self.done), []
        self._begin()
        for group in grouped([len(one) for one in texts]):
            losses = self.distances(*padded([texts[at] for at in group], self.model.device))
            share = len(group) / len(texts)
            self._descend(torch.stack([share * self.recipe.losses[name] * losses[name] for name in losses]).sum())
            found.append({name: share * float(value.detach()) for name, value in losses.items()})
        self._move()
        measured = {name: sum(one[name] for one in found) for name in found[0]}
        return {"loss": sum(self.recipe.losses[name] * value for name, value in measured.items()), **measured}

    def distances(self, ids: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Returns how far the model is from the teacher on some texts, by what it gives: 1 - cosine, shares of squares.

        A token is compared with the mean of those that it stands for, its weight with their largest.
        """
        return self._compared(ids, mask)[1]

    def _compared(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the model's dense vectors of some texts, and the distances."""
        with self.model.autocast():
            with torch.no_grad():
                below, texts = self._teacher.below(ids, mask).float(), merged(ids, mask, self.recipe.long_from)
                wanted = self._wanted(below, ids, mask, texts)
            if self.recipe.all_layers:
                below = self.model.below(ids, mask)
            found = self.model.halves(self.model.merging(below, mask, texts), texts.tokens, texts.counts)
        there = (texts.counts > 0)[:, :, None]
        losses = {
            "dense": (1 - (found.dense * wanted.dense).sum(dim=1)).mean(),
            "states": _apart(found.last * there, wanted.last * there),
            "terms": _apart(found.terms, wanted.terms),
            "own": _apart(found.own, wanted.own),
        }
        return found.dense, {
            name: losses[name] for name, weight in self.recipe.losses.items() if weight and name in losses
        }

    def _wanted(self, below: Tensor, ids: Tensor, mask: Tensor, texts: Merged) -> Halves:
        """Returns what the teacher gives, for what is left of the texts."""
        if self._teacher.base_merges:
            return self._teacher.halves(self._teacher.merging(below, mask, texts), texts.tokens, texts.counts)
        given = self._teacher.halves(self._teacher.merging(below, mask, None), ids, mask.float())
        return given._replace(
            last=torch.bmm(texts.shares, given.last), own=(texts.members * given.own[:, None, :]).amax(dim=2)
        )


class TaughtSteps(LeanSteps):
    """Steps in which the dense half also learns which of a step's texts others find alike.

    All of a step's texts are compared with one another, so they are held together, which takes more memory.

    Args:
        model: what learns.
        teacher: what both halves are held to.
        documents: token ids of each document.
        queries: token ids of the query of each pair.
        alike: what others find alike.
        recipe: how.
    """

    def __init__(
        self, model: JointModel, teacher: JointModel, documents: Ids, queries: Ids, alike: Alike, recipe: Recipe
    ) -> None:
        super().__init__(model, teacher, (), recipe)
        self._documents, self._queries, self._alike = documents, queries, alike

    def _step(self) -> dict[str, float]:
        recipe, device = self.recipe, self.model.device
        random = np.random.default_rng([recipe.seed, self.done])
        lesson = self._alike.lesson(random, recipe.documents, recipe.seeds)
        texts = [self._documents[at] for at in lesson.documents] + [self._queries[at] for at in lesson.pairs]
        self._begin()
        order: list[int] = []
        vectors: list[Tensor] = []
        sums = {name: torch.zeros((), device=device) for name, weight in recipe.losses.items() if weight}
        for group in grouped([len(one) for one in texts]):
            dense, losses = self._compared(*padded([texts[at] for at in group], device))
            for name, value in losses.items():
                sums[name] = sums[name] + len(group) / len(texts) * value
            vectors.append(dense)
            order += group
        rows = torch.cat(vectors)[torch.from_numpy(np.argsort(order)).to(device)]
        wanted = torch.from_numpy(self._alike.wanted(lesson)).to(device)
        sums["order"] = order_apart(rows, wanted * recipe.teacher_scale, recipe.scale)
        total = torch.stack([recipe.losses[name] * value for name, value in sums.items()]).sum()
        self._descend(total)
        self._move()
        return {"loss": float(total.detach()), **{name: float(value.detach()) for name, value in sums.items()}}


def order_apart(vectors: Tensor, wanted: Tensor, scale: float) -> Tensor:
    """Returns how far texts are from ordering a step's documents as they should: the mean divergence of softmaxes.

    Args:
        vectors: (n, width), those of the documents first.
        wanted: (n, documents), what a text's scores should be, up to a constant; its own is passed over.
        scale: what cosines are multiplied by.
    """
    count = wanted.shape[1]
    same = torch.eye(len(vectors), count, dtype=torch.bool, device=vectors.device)
    found = (scale * vectors @ vectors[:count].T).masked_fill(same, _NEVER).log_softmax(dim=1)
    aim = wanted.masked_fill(same, _NEVER).log_softmax(dim=1)
    return torch.nn.functional.kl_div(found, aim, reduction="batchmean", log_target=True)


def _apart(found: Tensor, wanted: Tensor) -> Tensor:
    """Returns the squared distance as a share of the squared length of what is wanted."""
    return (found - wanted).square().sum() / (wanted.square().sum() + _TINY)


class LeanTraining:
    """A recipe of the strand "both" over a base and texts, ready for its steps.

    Args:
        recipe: what to do.
        base: what to start from, and the teacher.
        texts: what to learn from: documents and queries alike, whichever answers which.
        cache: where the vectors of other teachers are kept.
        device: where to compute.
        tell: told how far it is.

    Raises:
        TrainError: the base is no joint model, merges already or otherwise than the recipe, or no text is long enough.
    """

    def __init__(
        self, recipe: Recipe, base: Base, texts: Texts, *, cache: Path, device: torch.device, tell: Tell
    ) -> None:
        self.recipe = recipe
        self.log: list[dict[str, float]] = []
        self._tell = tell
        half = _half(base, recipe)
        encodings = Encodings(texts.training, cache, tell, base, recipe.max_length)
        alike = Alike.of(recipe.teachers, encodings) if recipe.losses.get("order") else None
        tell(Event("tokenising"))
        documents = base.ids(texts.training.documents, recipe.max_length, "document")
        place = {text: at for at, text in enumerate(dict.fromkeys(texts.training.queries))}
        queries = base.ids(list(place), recipe.max_length, "query")
        long = [one for one in documents if len(one) >= recipe.long_from]
        short = [one for one in documents if len(one) < recipe.long_from]
        if not long and alike is None:
            raise TrainError(
                f"no document has {recipe.long_from} tokens, from which on equal ones merge (long_from), in the "
                f"{recipe.max_length} that are read (max_length): there is nothing to learn"
            )
        taught = "the base is the teacher" if alike is None else "the teachers' vectors are there"
        tell(Event("starting", note=f"{taught}; documents: {len(long):,} long, {len(short):,} short"))
        teacher = JointModel(base, half, recipe, device)
        for part in (teacher.trunk, teacher.head):
            part.requires_grad_(False)
        self.model = JointModel(base, half, recipe, device)
        if alike is None:
            self._steps = LeanSteps(self.model, teacher, (long, short, queries), recipe)
        else:
            asked = [queries[place[text]] for text in texts.training.queries]
            self._steps = TaughtSteps(self.model, teacher, documents, asked, alike, recipe)

    @property
    def done(self) -> int:
        """Steps that are done."""
        return self._steps.done

    def resume(self, folder: Path) -> None:
        """Goes on from what `run` saved, where there is something."""
        if self._steps.resume(folder):
            self.log = read_log(folder / LOG)[: self.done]

    def run(self, folder: Path, *, every: int, stop: Callable[[], bool]) -> bool:
        """Takes the steps that are left; tells whether it was not stopped before the last.

        Args:
            folder: where to save.
            every: steps between two times.
            stop: asked after each step.
        """
        total = self.recipe.steps
        self._tell(Event(STEPS, self.done, total))
        for measured in self._steps.run():
            self.log.append(measured)
            self._tell(Event(STEPS, self.done, total, measured))
            stopped = stop() and self.done < total
            if self.done % every == 0 or self.done == total or stopped:
                write_log(folder / LOG, self.log)  # first: steps that the state does not know are cut off on reading
                self._steps.save(folder)
            if stopped:
                return False
        return True


def _half(base: Base, recipe: Recipe) -> SparseHalf:
    try:
        half = read_sparse_half(base.checkpoint)
    except EncoderError as error:
        raise TrainError(f"recipe {recipe.name} is for a joint model, but the base is none: {error}") from error
    below = base.checkpoint.depth - half.branch_layers
    if recipe.full_layers > below:
        more = f"but {base.folder} has {below} layers below the branch"
        raise TrainError(f"equal tokens merge in layer {recipe.full_layers} (full_layers), {more}")
    if half.full_layers is not None:
        _check_merging(base, half, recipe)
    if half.pooling != "max" or base.checkpoint.pooling != "mean":
        pooled = f"the base's sparse half pools by {half.pooling!r}, its dense half by {base.checkpoint.pooling!r}"
        raise TrainError(f"{pooled}: equal tokens merge where they pool by 'max' and 'mean'")
    return half


def _check_merging(base: Base, half: SparseHalf, recipe: Recipe) -> None:
    """Checks that a training can start from a base whose equal tokens merge: with the loss "order", merging alike."""
    already = f"equal tokens merge in layer {half.full_layers} of {base.folder} already"
    if not recipe.losses.get("order"):
        raise TrainError(f"{already}: give the model that it was made from, which can teach what it gives without")
    differs = [name for name in MERGING if getattr(half, name) != getattr(recipe, name)]
    if differs:
        said = ", ".join(f"{name} {getattr(recipe, name):g}" for name in differs)
        wanted = " ".join(f"--set {name}={getattr(half, name):g}" for name in differs)
        raise TrainError(f"{already}, and the recipe has {said}: say {wanted}")
