"""A tiny random BERT and made-up documents to train it on."""

from __future__ import annotations

import json

import numpy as np

THINGS = ["snow", "bees", "ships", "bread", "moon", "glass", "wool", "iron", "salt", "tea"]
PLACES = ["winter", "garden", "harbour", "kitchen", "night", "furnace", "hill", "forge", "mine", "valley"]
DOES = ["falls in", "comes from", "is found near", "is made for"]
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
SMALL = {
    "steps": 12, "documents": 12, "seeds": 4, "queries": 24, "terms": 0, "max_length": 24, "encoder_length": 32,
    "mining": ["lexical"], "teachers": {"bm25": 1.0}, "precision": "fp32", "rate": 0.01,
}  # fmt: skip


def documents():
    """Returns 40 different texts."""
    return [
        f"{THINGS[n % 10]} {DOES[n // 10]} the {PLACES[n * 3 % 10]}, as everybody in the {PLACES[n % 10]} knows."
        for n in range(40)
    ]


def pairs(path):
    """Writes a query for each document and returns the file."""
    lines = [
        {"query": f"what {DOES[n // 10]} the {PLACES[n * 3 % 10]} like {THINGS[n % 10]}", "positive": text}
        for n, text in enumerate(documents())
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def beir(folder):
    """Writes a test collection of some of the documents under other words."""
    folder.mkdir()
    texts = [f"{THINGS[n]} and {PLACES[n]} go together in old stories." for n in range(10)]
    corpus = [{"_id": f"d{n}", "title": THINGS[n], "text": text} for n, text in enumerate(texts)]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(line) + "\n" for line in corpus))
    queries = [{"_id": f"q{n}", "text": f"stories of {THINGS[n]}"} for n in range(10)]
    (folder / "queries.jsonl").write_text("".join(json.dumps(line) + "\n" for line in queries))
    (folder / "qrels").mkdir()
    rows = "".join(f"q{n}\td{n}\t1\n" for n in range(10))
    (folder / "qrels" / "test.tsv").write_text(f"query-id\tcorpus-id\tscore\n{rows}")
    return folder


def base(folder, *, masked=False, layers=2, seed=3):
    """Writes a random BERT with a word table of the documents' words, as sentence-transformers keeps one."""
    import torch
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertConfig, BertForMaskedLM, BertModel

    folder.mkdir()
    words = sorted({word.strip(".,") for text in documents() for word in text.lower().split()})
    letters = [mark + letter for letter in "abcdefghijklmnopqrstuvwxyz.,?" for mark in ("", "##")]
    vocabulary = {token: n for n, token in enumerate([*SPECIALS, *words, *(x for x in letters if x not in words)])}
    BertWordPieceTokenizer(vocabulary).save(str(folder / "tokenizer.json"))
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=32, num_hidden_layers=layers, num_attention_heads=4,
        intermediate_size=48, max_position_embeddings=40,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = BertForMaskedLM(config) if masked else BertModel(config, add_pooling_layer=False)
        for tensor in model.parameters():
            torch.nn.init.normal_(tensor, std=0.3)
    model.save_pretrained(folder)
    modules = [("0", "", "Transformer"), ("1", "1_Pooling", "Pooling"), ("2", "2_Normalize", "Normalize")]
    rows = [
        {"idx": int(name), "name": name, "path": path, "type": f"sentence_transformers.models.{kind}"}
        for name, path, kind in modules
    ]
    (folder / "modules.json").write_text(json.dumps(rows))
    (folder / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 32, "do_lower_case": False}))
    return folder


def words(count=7, seed=0):
    """Returns texts of words the base knows."""
    random = np.random.default_rng(seed)
    return [" ".join(random.choice([*THINGS, *PLACES, "the", "in"], n + 1)) for n in range(count)]
