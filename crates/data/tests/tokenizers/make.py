"""Trains the tokenisers of this folder with Hugging Face's `tokenizers` on its own documentation, and writes down what
they make of some texts."""

import json
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

here = Path(__file__).parent
corpus = [(here / "../../../../README.md").read_text(), (here / "../../../../ARCHITECTURE.md").read_text()]
texts = [
    "The model, as written in the manifest.\n",
    "Two\n\n  lines,\tand 3.14 naïve cafés: 数据 🦀!\n",
    "  blanks at  both ends  ",
    "<|end|>data<|end|>",
]

bpe = Tokenizer(models.BPE())
bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
bpe.decoder = decoders.ByteLevel()
trainer = trainers.BpeTrainer(
    vocab_size=700, special_tokens=["<|end|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
)
bpe.train_from_iterator(corpus, trainer)

unigram = Tokenizer(models.Unigram())
unigram.normalizer = normalizers.NFKC()
unigram.pre_tokenizer = pre_tokenizers.Metaspace()
unigram.decoder = decoders.Metaspace()
trainer = trainers.UnigramTrainer(
    vocab_size=300, special_tokens=["<unk>", "<|end|>"], unk_token="<unk>", show_progress=False
)
unigram.train_from_iterator(corpus, trainer)

wordpiece = Tokenizer(models.WordPiece(unk_token="[UNK]"))
wordpiece.normalizer = normalizers.BertNormalizer()
wordpiece.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
wordpiece.decoder = decoders.WordPiece()
trainer = trainers.WordPieceTrainer(vocab_size=300, special_tokens=["[UNK]", "<|end|>"], show_progress=False)
wordpiece.train_from_iterator(corpus, trainer)

expected = []
for name, tokenizer in [("bpe", bpe), ("unigram", unigram), ("wordpiece", wordpiece)]:
    tokenizer.enable_truncation(3)
    tokenizer.save(str(here / f"{name}.json"), pretty=False)
    tokenizer.no_truncation()
    for text in texts:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        decoded = tokenizer.decode(ids, skip_special_tokens=False)
        expected.append({"tokenizer": name, "text": text, "ids": ids, "decoded": decoded})
(here / "expected.json").write_text(json.dumps(expected, indent=0) + "\n")
