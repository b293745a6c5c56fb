"""Make the embedded base model: a small Llama trained from nothing on the Python standard library's source.

    python -m adapterlab.models.pretrain --out OUT [--steps 3200]

It needs no network. Progress is kept in `OUT/checkpoint.safetensors`, so a run that was stopped goes on when the same
command is given again; at the end `OUT/model/` holds what ships: fp16 weights, tokenizer, config and a model card.
"""

from __future__ import annotations

import argparse
import json
import lzma
import math
import platform
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from adapterlab.errors import AdapterlabError
from adapterlab.models.corpus import HELDOUT_IN, Document, documents

END = "<|endoftext|>"
# As GPT-2's, but a digit is a token: arithmetic and names with numbers stay legible to a small model.
_WORDS = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the outcome, apart from the Python whose library is read."""

    steps: int = 3200
    batch: int = 8
    context: int = 512
    lr: float = 6e-3
    weight_decay: float = 0.1
    warmup: int = 100
    decay: float = 0.375
    """The share of the steps, at the end, over which the learning rate falls linearly to zero."""
    vocabulary: int = 4096
    seed: int = 0

    def config(self) -> LlamaConfig:
        """The architecture: about 4.3 M parameters."""
        return LlamaConfig(
            vocab_size=self.vocabulary,
            hidden_size=256,
            intermediate_size=704,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=1024,
            tie_word_embeddings=True,
            bos_token_id=0,
            eos_token_id=0,
        )

    def lr_at(self, step: int) -> float:
        """Linear warm-up, a plateau, then a linear fall to zero."""
        left = (self.steps - step) / max(1, self.decay * self.steps)
        return self.lr * min(1.0, (step + 1) / self.warmup, left)


def train_tokenizer(texts: tuple[Document, ...], vocabulary: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE of `vocabulary` entries; token 0 ends a document."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator((document.text for document in texts), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token=END, eos_token=END, pad_token=END)


def encode(tokenizer: PreTrainedTokenizerFast, texts: tuple[Document, ...]) -> list[Tensor]:
    """Each document as a vector of token ids that starts with the end-of-document token."""
    encoded = cast(list[list[int]], tokenizer([d.text for d in texts], add_special_tokens=False)["input_ids"])
    return [torch.tensor([0, *ids]) for ids in encoded]


def batch_at(stream: Tensor, step: int, recipe: Recipe) -> Tensor:
    """The batch of one step, `(batch, context)`: the stream is cut anew at a random offset in every epoch."""
    windows = len(stream) // recipe.context - 1
    epoch, first = divmod(step * recipe.batch, windows - windows % recipe.batch)
    generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + epoch)
    shift = int(torch.randint(recipe.context, (), generator=generator))
    chosen = torch.randperm(windows, generator=generator)[first : first + recipe.batch]
    return torch.stack([stream[shift + i * recipe.context :][: recipe.context] for i in chosen.tolist()])


@torch.no_grad()
def heldout_loss(model: LlamaForCausalLM, texts: list[Tensor], total_bytes: int, context: int) -> float:
    """Loss in nats per byte; every token but a document's first half window sees at least `context / 2` before it."""
    total = 0.0
    stride = context // 2
    pieces = []
    for ids in texts:
        for start in range(0, max(1, len(ids) - stride), stride):
            piece = ids[start : start + context]
            scored = torch.full((context,), -100)
            scored[: len(piece)] = piece
            scored[: stride if start else 1] = -100
            pieces.append((torch.nn.functional.pad(piece, (0, context - len(piece))), scored))
    for i in range(0, len(pieces), 8):
        inputs, labels = (torch.stack(column) for column in zip(*pieces[i : i + 8], strict=True))
        logits = model(input_ids=inputs).logits[:, :-1].float()
        total += cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), reduction="sum").item()
    return total / total_bytes


def xz_per_byte(texts: bytes, before: bytes = b"") -> float:
    """What xz makes of `texts`, in nats per byte, with `before` already seen."""
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": 1 << 26}]
    size = [len(lzma.compress(data, filters=filters)) for data in (before, before + texts)]
    return (size[1] - size[0]) * 8 * math.log(2) / len(texts)


class Training:
    """The model, its two optimizers and how far they have come."""

    def __init__(self, recipe: Recipe) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.step, self.seconds = recipe, 0, 0.0
        self.model = LlamaForCausalLM(recipe.config())
        named = dict(self.model.named_parameters())
        matrices = [p for name, p in named.items() if p.ndim == 2 and "embed" not in name]
        rest = [p for name, p in named.items() if p.ndim != 2 or "embed" in name]
        self.optimizers: list[torch.optim.Optimizer] = [
            torch.optim.Muon(matrices, lr=recipe.lr, weight_decay=recipe.weight_decay, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(rest, lr=recipe.lr, betas=(0.9, 0.95), weight_decay=0.0),
        ]

    def update(self, batch: Tensor) -> float:
        """One step on `batch`; its loss in nats per token."""
        started = time.monotonic()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = self.model(input_ids=batch).logits[:, :-1]
        loss = cross_entropy(logits.float().flatten(0, 1), batch[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.recipe.lr_at(self.step)
            optimizer.step()
            optimizer.zero_grad()
        self.step += 1
        self.seconds += time.monotonic() - started
        return loss.item()

    def _tensors(self) -> dict[str, Tensor]:
        names = {p: name for name, p in self.model.named_parameters()}
        tensors = {f"model.{name}": p.detach() for p, name in names.items()}
        for optimizer in self.optimizers:
            for p, state in optimizer.state.items():
                for key, value in state.items():
                    tensors[f"{key}.{names[cast(torch.nn.Parameter, p)]}"] = value
        return tensors

    def save(self, path: Path) -> None:
        """Write weights and optimizer state, whole or not at all."""
        meta = {"step": str(self.step), "seconds": str(self.seconds), "recipe": json.dumps(asdict(self.recipe))}
        partial = path.with_suffix(".partial")
        save_file({name: t.contiguous() for name, t in self._tensors().items()}, partial, metadata=meta)
        partial.replace(path)

    def load(self, path: Path) -> None:
        """Go on from `path`; raises `AdapterlabError` if another recipe wrote it."""
        with safe_open(path, "pt") as file:
            meta = file.metadata()
            if json.loads(meta["recipe"]) != asdict(self.recipe):
                raise AdapterlabError(f"{path} belongs to another recipe: give another --out, or remove it")
            for name, p in self.model.named_parameters():
                p.data.copy_(file.get_tensor(f"model.{name}"))
                for optimizer in self.optimizers:
                    if any(p is q for group in optimizer.param_groups for q in group["params"]):
                        suffix = f".{name}"
                        keys = [k for k in file.keys() if k.endswith(suffix) and not k.startswith("model.")]  # noqa: SIM118
                        optimizer.state[p] = {k.removesuffix(suffix): file.get_tensor(k) for k in keys}
        self.step, self.seconds = int(meta["step"]), float(meta["seconds"])


CARD = """# adapterlab base

A Llama-architecture language model of {parameters:,} parameters (hidden {hidden}, {layers} layers, {vocabulary:,} byte-level
BPE tokens), made to be adapted: small enough to train many adapters on two cores, trained well enough to have something
to forget.

| | |
|---|---|
| data | the standard library of Python {python}: {train_files:,} files, {train_mb:.1f} MB; {heldout_files} library files ({heldout_kb:.0f} kB) held out by a hash of their path, one in {heldout_in} |
| training | {steps:,} steps of {batch}x{context} tokens ({tokens:.1f} M tokens), Muon and AdamW, {minutes:.0f} minutes on {threads} CPU threads |
| held-out loss | **{loss:.3f} nats per byte** (fp16 weights, windows of {context} tokens, at least half of it seen before each token) |
| xz of the same files | {xz_alone:.3f} alone, {xz_after:.3f} with the training files before them |

Made by

    python -m adapterlab.models.pretrain --out OUT --steps {steps}

Loaded by `AutoModelForCausalLM.from_pretrained(folder)`. It writes plausible Python and knows nothing; it is an
instrument, not an assistant. The text that it was trained on is under the PSF licence.
"""


def export(training: Training, tokenizer: PreTrainedTokenizerFast, out: Path) -> float:
    """Write the folder that ships and its card; gives the held-out loss of what was written, in nats per byte."""
    recipe = training.recipe
    folder = out / "model"
    training.model.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    heldout, train = documents("heldout"), documents("train")
    raw, before = ("".join(d.text for d in side).encode() for side in (heldout, train))
    loss = heldout_loss(model, encode(tokenizer, heldout), len(raw), recipe.context)
    card = CARD.format(
        parameters=sum(p.numel() for p in model.parameters()),
        hidden=model.config.hidden_size,
        layers=model.config.num_hidden_layers,
        vocabulary=recipe.vocabulary,
        python=platform.python_version(),
        train_files=len(train),
        train_mb=len(before) / 1e6,
        heldout_files=len(heldout),
        heldout_kb=len(raw) / 1e3,
        heldout_in=HELDOUT_IN,
        steps=recipe.steps,
        batch=recipe.batch,
        context=recipe.context,
        tokens=recipe.steps * recipe.batch * recipe.context / 1e6,
        minutes=training.seconds / 60,
        threads=torch.get_num_threads(),
        loss=loss,
        xz_alone=xz_per_byte(raw),
        xz_after=xz_per_byte(raw, before),
    )
    (folder / "README.md").write_text(card)
    return loss


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="the folder for checkpoint, log and model")
    parser.add_argument("--steps", type=int, default=Recipe.steps)
    parser.add_argument("--lr", type=float, default=Recipe.lr)
    parser.add_argument("--every", type=int, default=250, help="steps between checkpoints")
    options = parser.parse_args()
    recipe = Recipe(steps=options.steps, lr=options.lr)
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)

    tokenizer = train_tokenizer(documents("train"), recipe.vocabulary)
    order = torch.randperm(len(documents("train")), generator=torch.Generator().manual_seed(recipe.seed))
    encoded = encode(tokenizer, documents("train"))
    stream = torch.cat([encoded[i] for i in order.tolist()])
    probe = sorted(documents("heldout"), key=lambda d: len(d.text))[-30:-10]
    probe_ids, probe_bytes = encode(tokenizer, tuple(probe)), sum(len(d.text.encode()) for d in probe)

    training = Training(recipe)
    checkpoint = out / "checkpoint.safetensors"
    if checkpoint.exists():
        training.load(checkpoint)
    with (out / "log.jsonl").open("a") as log:
        while training.step < recipe.steps:
            loss = training.update(batch_at(stream, training.step, recipe))
            if training.step % options.every == 0 or training.step == recipe.steps:
                training.save(checkpoint)
                heldout = heldout_loss(training.model, probe_ids, probe_bytes, recipe.context)
                row = {"step": training.step, "minutes": round(training.seconds / 60, 1), "train": loss}
                print(json.dumps(row | {"heldout_nats_per_byte": heldout}), file=log, flush=True)
    print(f"held-out loss: {export(training, tokenizer, out):.4f} nats per byte")


if __name__ == "__main__":
    main()
