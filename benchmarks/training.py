"""A training step of the sparse head, by plait's exact form and by the textbook's: seconds, memory, gradients."""

# pyright: reportMissingImports=false
# (pyright does not see an editable install of plait, and torch is not installed where types are checked)

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import common

TEXTBOOK, PLAIT = "textbook, fp32", "plait, fp32"
TENSORS = ("states", "decoder", "bias")
QUERY_TERMS = 8
PENALTY = 3e-3
TILE = 2048  # vocabulary entries at a time while the batch is made
QUICK = {"documents": 6, "tokens": 16, "vocabulary": 3000, "queries": 12, "widths": [24, 16], "repeats": 2}


def main() -> None:
    """Measures and writes the page."""
    args = _arguments()
    common.pin_threads(args.threads, cores=True)
    where = common.machine()
    try:
        import torch
    except ImportError:
        common.fail('torch is not installed: pip install "plait[train]"')
    torch.set_num_threads(args.threads)
    if args.form:
        print(json.dumps(_memory(args.form, args.batch)))
        return
    cases = [_case(args, width) for width in args.widths]
    print(_report(args, where, cases))


def _arguments() -> argparse.Namespace:
    parser = common.parser(__doc__ or "", repeats=5)
    parser.add_argument("--documents", type=int, default=64, help="documents of the batch; fewer where memory is short")
    parser.add_argument("--tokens", type=int, default=128, help="tokens of each document")
    parser.add_argument("--vocabulary", type=int, default=30_522, help="rows of the decoder")
    parser.add_argument("--widths", type=int, nargs="+", default=[384, 128], help="widths of the head")
    parser.add_argument("--queries", type=int, default=256, help="queries scored against the documents")
    parser.add_argument("--active", type=float, default=0.008, help="share of the vocabulary active in a document")
    parser.add_argument("--threads", type=int, default=2, help="threads and cores")
    parser.add_argument("--seed", type=int, default=1, help="of the made-up states and weights")
    parser.add_argument("--quick", action="store_true", help="a small batch, to try it (results: training-try)")
    parser.add_argument("--form", help=argparse.SUPPRESS)  # a process of our own, that measures one form's memory
    parser.add_argument("--batch", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.quick:
        vars(args).update(QUICK)
    if min(args.documents, args.tokens, args.vocabulary, args.queries, *args.widths) < 1 or not 0 < args.active < 1:
        common.fail("every size is at least 1, and --active is between 0 and 1")
    return args


# The batch


def _batch(args: argparse.Namespace, width: int) -> dict[str, Any]:
    """Returns made-up token states, weights, queries and a teacher's scores, as arrays of numpy.

    The bias is such that the wanted share of all (document, term) pairs is active. Tokens of a document are alike, as
    those that come out of a transformer are.
    """
    import torch

    random = torch.Generator().manual_seed(args.seed)
    normal = partial(torch.randn, generator=random)
    subject = normal(args.documents, 1, width)
    states = (0.5 * subject + normal(args.documents, args.tokens, width)).reshape(-1, width)
    decoder = normal(args.vocabulary, width) / width**0.5
    best = torch.cat([_largest(states @ tile.T, args.documents) for tile in decoder.split(TILE)], dim=1)
    above = best.flatten().kthvalue(round(best.numel() * (1 - args.active))).values
    terms = torch.randint(args.vocabulary, (args.queries, min(QUERY_TERMS, args.vocabulary)), generator=random)
    arrays = {
        "states": states,
        "decoder": decoder,
        "bias": 0.05 * normal(args.vocabulary) - above,
        "terms": terms,
        "weights": 1 + 5 * torch.rand(terms.shape, generator=random),
        "teacher": 3 * normal(args.queries, args.documents),
        "documents": torch.tensor(args.documents),
    }
    return {name: tensor.numpy() for name, tensor in arrays.items()}


def _largest(logits: Any, documents: int) -> Any:
    return logits.view(documents, -1, logits.shape[1]).amax(dim=1)


class Step:
    """One batch and the ways to its gradient: KL to a teacher, over queries and documents, and the FLOPS penalty."""

    def __init__(self, batch: Mapping[str, Any]) -> None:
        import torch

        self._leaves = [torch.from_numpy(batch[name]).requires_grad_() for name in TENSORS]
        self._documents = int(batch["documents"])
        self._lengths = [len(self._leaves[0]) // self._documents] * self._documents
        self._teacher = torch.from_numpy(batch["teacher"])
        terms = torch.from_numpy(batch["terms"])
        self._columns, place = torch.unique(terms, return_inverse=True)
        rows = torch.arange(len(terms))[:, None].expand_as(terms)
        table = torch.zeros(len(terms), len(self._columns))
        self._queries = table.index_put((rows, place), torch.from_numpy(batch["weights"]))
        self.terms = 0.0

    @property
    def forms(self) -> dict[str, Callable[[], None]]:
        """The ways, by name; each leaves its gradient behind. bf16 only where the processor multiplies it."""
        import torch
        from plait.train.loop import multiplies_bfloat16

        names = ("fp32", "bf16") if multiplies_bfloat16(torch.device("cpu")) else ("fp32",)
        ways = {"textbook": self._textbook, "plait": self._plait}
        return {f"{way}, {name}": partial(ways[way], precise=name == "fp32") for way in ways for name in names}

    def gradients(self, form: str) -> dict[str, Any]:
        """Returns the gradient of states, decoder and bias by one way."""
        self.forms[form]()
        return {name: leaf.grad for name, leaf in zip(TENSORS, self._leaves, strict=True)}

    def _textbook(self, *, precise: bool) -> None:
        """Takes every logit of every token at once; the maximum before the logarithm, which is the same and kinder."""
        import torch

        states, decoder, bias = self._cleared()
        with torch.autocast("cpu", torch.bfloat16, enabled=not precise):
            logits = torch.nn.functional.linear(states, decoder, bias)
        pooled = logits.view(self._documents, -1, len(decoder)).max(dim=1).values
        vectors = pooled.float().relu().log1p()
        penalty = (vectors.mean(dim=0) ** 2).sum()
        self._learn(vectors[:, self._columns], penalty)

    def _plait(self, *, precise: bool) -> None:
        from plait.train.heads import Sparse, log1p, pooled_logits
        from plait.train.losses import flops

        states, decoder, bias = self._cleared()
        logits = pooled_logits(states, self._lengths, decoder, bias, precise=precise)
        vectors = Sparse(logits.rows, logits.columns, log1p(logits.values), logits.shape)
        self.terms = len(vectors.rows) / self._documents
        self._learn(vectors.gathered(self._columns), flops(vectors, 0.0))

    def _cleared(self) -> list[Any]:
        for leaf in self._leaves:
            leaf.grad = None
        return self._leaves

    def _learn(self, documents: Any, penalty: Any) -> None:
        from plait.train.losses import kl

        scores = 0.25 * self._queries @ documents.T
        (kl(scores, self._teacher, self._teacher > 0) + PENALTY * penalty).backward()


# What is measured


def _case(args: argparse.Namespace, width: int) -> dict[str, Any]:
    """Returns the figures of one width: seconds, memory and gradients of each form on the same batch."""
    import numpy as np

    batch = _batch(args, width)
    with tempfile.TemporaryDirectory(prefix="plait-training-") as folder:
        path = Path(folder) / "batch.npz"
        np.savez(path, **batch)
        step = Step(batch)
        memory = {form: _in_its_own_process(args, form, path) for form in step.forms}
    differences = _differences(step)
    seconds = common.alternating(step.forms, args.repeats)
    return {
        "width": width,
        "active_terms": step.terms,
        "seconds": seconds,
        "memory": memory,
        "differences": differences,
    }


def _differences(step: Step) -> dict[str, dict[str, dict[str, float]]]:
    """Returns for each form but the first how far its gradient is from that of the textbook in fp32."""
    import torch

    exact = {name: gradient.clone() for name, gradient in step.gradients(TEXTBOOK).items()}
    found: dict[str, dict[str, dict[str, float]]] = {}
    for form in step.forms:
        if form == TEXTBOOK:
            continue
        found[form] = {}
        for name, gradient in step.gradients(form).items():
            apart = gradient - exact[name]
            found[form][name] = {
                "largest": float(exact[name].abs().max()),
                "absolute": float(apart.abs().max()),
                "relative": float(apart.abs().max() / exact[name].abs().max()),
                "norm": float(torch.linalg.vector_norm(apart) / torch.linalg.vector_norm(exact[name])),
            }
    return found


def _in_its_own_process(args: argparse.Namespace, form: str, batch: Path) -> dict[str, int]:
    command = [sys.executable, __file__, "--threads", str(args.threads), "--form", form, "--batch", str(batch)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        common.fail(f"{form} ended with status {done.returncode} ({last}): memory may be short; give fewer --documents")
    return json.loads(done.stdout)


def _memory(form: str, path: Path) -> dict[str, int]:
    """Returns the resident bytes of this process with the batch loaded, and the most while it takes a step."""
    import numpy as np

    with np.load(path) as held:
        step = Step({name: held[name] for name in held.files})
    small = {"documents": np.array(1), "states": np.zeros((2, 4), np.float32), "decoder": np.ones((3, 4), np.float32)}
    small |= {"bias": np.ones(3, np.float32), "terms": np.zeros((1, 1), np.int64)}
    small |= {"weights": np.ones((1, 1), np.float32), "teacher": np.zeros((1, 1), np.float32)}
    Step(small).forms[form]()  # what torch loads on its first step is no part of the form
    gc.collect()
    with contextlib.suppress(OSError):  # the most counts from here; where it cannot, from the start of the process
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    before = _resident()
    step.forms[form]()
    return {"before": before, "peak": _peak(), "used": _peak() - before}


def _resident() -> int:
    return _status("VmRSS") or _peak()


def _peak() -> int:
    """Returns the most resident bytes of this process so far.

    Linux hands `ru_maxrss` down from the parent, so /proc comes first where there is one.
    """
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return _status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _status(name: str) -> int | None:
    path = Path("/proc/self/status")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(name)), None)


# The page


def _report(args: argparse.Namespace, where: Mapping[str, Any], cases: Sequence[Mapping[str, Any]]) -> str:
    sizes = {
        name: getattr(args, name)
        for name in ("documents", "tokens", "vocabulary", "queries", "active", "threads", "repeats", "seed")
    }
    tables = [table for case in cases for table in (_cost(case), _gradients(case))]
    notes = [
        f"{args.documents} documents of {args.tokens} tokens, a vocabulary of {args.vocabulary:,}, {args.queries} "
        f"queries of {QUERY_TERMS} terms. States and weights are made up (seed {args.seed}); the bias makes "
        f"{args.active:.1%} of the terms active. Forms share weights and batch.",
        "Textbook: the logits of all tokens and terms in one tensor, their maximum over tokens, log(1 + x), loss, "
        "backward; bf16, where the processor has it, by autocast. plait: `pooled_logits`, whose bf16 finds the active "
        "terms alone: their values and gradients are fp32 in both. The loss is the KL to a teacher "
        "and the FLOPS penalty. No transformer, no optimiser.",
        f"Seconds: median of {args.repeats} after a warm-up, forms taking turns, {args.threads} threads. Memory: the "
        "most that a first step adds to a process of its own which holds the batch already, gradients included.",
        "Gradients: largest difference from the textbook's in fp32, as it is and over the largest entry of that "
        "gradient; norm: of the difference over the norm of that gradient.",
    ]
    return common.write(
        "training-try" if args.quick else "training", args.results, where=where, tables=tables, notes=notes,
        raw={"sizes": sizes, "cases": cases},
        about="A step of the sparse head, by plait's exact form and by the textbook's: seconds, memory, gradients.",
    )  # fmt: skip


def _cost(case: Mapping[str, Any]) -> common.Table:
    seconds = common.medians(case["seconds"])
    used = {form: facts["used"] for form, facts in case["memory"].items()}
    rows = [
        (
            form,
            f"{seconds[form]:.3f}",
            f"{seconds[TEXTBOOK] / seconds[form]:.1f} x",
            f"{used[form] / 2**20:,.0f}",
            f"{used[TEXTBOOK] / max(used[form], 1):.1f} x",
        )
        for form in seconds
    ]
    columns = ("form", "seconds a step", "times as fast", "MiB at most", "times as small")
    return common.Table(f"Width {case['width']}, {case['active_terms']:.0f} active terms a document", columns, rows)


def _gradients(case: Mapping[str, Any]) -> common.Table:
    rows = [
        (f"{form}: {name}", *(f"{facts[key]:.1e}" for key in ("largest", "absolute", "relative", "norm")))
        for form, tensors in case["differences"].items()
        for name, facts in tensors.items()
    ]
    columns = ("gradient", "largest entry", "largest difference", "relative", "norm")
    return common.Table(f"Width {case['width']}, gradients beside {TEXTBOOK}", columns, rows)


if __name__ == "__main__":
    main()
