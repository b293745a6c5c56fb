"""The recipe of the embedded base model: a small Llama, trained from scratch on the source of the Python standard library.

`adapterlab models pretrain` runs it at three widths, for studies of how effects depend on the size of a model. No network is
needed. A run writes checkpoints, and resumes from the last one.

>>> recipe = Recipe(steps=1000, lr=1.0)
>>> recipe.lr_at(0), recipe.lr_at(500), recipe.lr_at(1000)
(0.01, 1.0, 0.0)
"""

from __future__ import annotations

import json
import lzma
import math
import platform
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from adapterlab.errors import AdapterlabError
from adapterlab.models.corpus import HELDOUT_IN, Document, documents

SIZES = {"1m": 128, "4m": 256, "16m": 512}
"""By name of a size, the width of the model: 1.3, 4.3 and 14.9 million parameters. The embedded model is `4m`."""
END = "<|endoftext|>"
"""Token between documents."""
# As GPT-2's, but each digit is a token, which makes numbers easier for a small model.
_WORDS = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""


@dataclass(frozen=True)
class Recipe:
    """Settings of a training run; together with the version of Python they determine the weights."""

    width: int = 256
    """Size of the hidden states, a multiple of 64; the other sizes are in proportion, and every size has four layers."""
    steps: int = 3200
    """Number of optimizer steps."""
    batch: int = 8
    """Number of windows in a batch."""
    context: int = 512
    """Number of tokens in a window."""
    lr: float = 6e-3
    """Peak learning rate."""
    weight_decay: float = 0.1
    """Weight decay of the matrices; embeddings and norms have none."""
    warmup: int = 100
    """Number of steps over which the learning rate rises linearly."""
    decay: float = 0.375
    """Share of the steps, at the end, over which the learning rate falls linearly to zero."""
    vocabulary: int = 4096
    """Number of entries of the tokenizer."""
    seed: int = 0
    """Seed of the initial weights and of the order of the data."""

    @property
    def size(self) -> str:
        """Name of the size; empty for a width that has none."""
        return next((name for name, width in SIZES.items() if width == self.width), "")

    def config(self) -> LlamaConfig:
        """Return the architecture."""
        return LlamaConfig(
            vocab_size=self.vocabulary,
            hidden_size=self.width,
            intermediate_size=self.width * 11 // 4,
            num_hidden_layers=4,
            num_attention_heads=self.width // 64,
            num_key_value_heads=self.width // 64,
            max_position_embeddings=1024,
            tie_word_embeddings=True,
            bos_token_id=0,
            eos_token_id=0,
        )

    def lr_at(self, step: int) -> float:
        """Return the learning rate of a step: linear warm-up, a plateau, then a linear fall to zero.

        Args:
            step: Index of the step, from 0.
        """
        left = (self.steps - step) / max(1, self.decay * self.steps)
        return self.lr * min(1.0, (step + 1) / self.warmup, left)


def train_tokenizer(texts: tuple[Document, ...], vocabulary: int) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer whose token 0 is the end of a document.

    Args:
        texts: Documents to train it on.
        vocabulary: Number of entries.
    """
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
    """Return the token ids of each document, after the end-of-document token.

    Args:
        tokenizer: The tokenizer.
        texts: The documents.

    Returns:
        A vector of whole numbers for each document.
    """
    encoded = cast(list[list[int]], tokenizer([d.text for d in texts], add_special_tokens=False)["input_ids"])
    return [torch.tensor([0, *ids]) for ids in encoded]


def batch_at(stream: Tensor, step: int, recipe: Recipe) -> Tensor:
    """Return the batch of one step.

    In every epoch the stream is cut into windows at another random offset, and these are visited in random order.

    Args:
        stream: Token ids of all documents, one after the other.
        step: Index of the step, from 0.
        recipe: Batch size, window length and seed.

    Returns:
        Token ids, `(batch, context)`.
    """
    windows = len(stream) // recipe.context - 1
    epoch, first = divmod(step * recipe.batch, windows - windows % recipe.batch)
    generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + epoch)
    shift = int(torch.randint(recipe.context, (), generator=generator))
    chosen = torch.randperm(windows, generator=generator)[first : first + recipe.batch]
    return torch.stack([stream[shift + i * recipe.context :][: recipe.context] for i in chosen.tolist()])


@torch.no_grad()
def heldout_loss(model: LlamaForCausalLM, texts: list[Tensor], total_bytes: int, context: int) -> float:
    """Return the loss of a model on documents, in nats per byte.

    Each token is scored once, with at least `context / 2` tokens before it, except in a document's first window.

    Args:
        model: The model.
        texts: Token ids of each document.
        total_bytes: Size of the documents in UTF-8.
        context: Number of tokens in a window.
    """
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
    """Return the compressed size of a text by xz, in nats per byte.

    Args:
        texts: The text.
        before: Text that precedes it and is not counted.
    """
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": 1 << 26}]
    size = [len(lzma.compress(data, filters=filters)) for data in (before, before + texts)]
    return (size[1] - size[0]) * 8 * math.log(2) / len(texts)


class Training:
    """A training run: the model, its optimizers, and the number of steps done.

    Args:
        recipe: Settings of the run.
    """

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
        """Run one optimizer step.

        Args:
            batch: Token ids, `(batch, context)`.

        Returns:
            The loss of the batch before the step, in nats per token.
        """
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
        """Write weights and optimizer state to a checkpoint, completely or not at all.

        Args:
            path: File of the checkpoint.
        """
        meta = {"step": str(self.step), "seconds": str(self.seconds), "recipe": json.dumps(asdict(self.recipe))}
        partial = path.with_suffix(".partial")
        save_file({name: t.contiguous() for name, t in self._tensors().items()}, partial, metadata=meta)
        partial.replace(path)

    def load(self, path: Path) -> None:
        """Resume from a checkpoint.

        Args:
            path: File of the checkpoint.

        Raises:
            AdapterlabError: The checkpoint was written with another recipe, or is damaged.
        """
        try:
            with safe_open(path, "pt") as file:
                meta = file.metadata() or {}
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise AdapterlabError(f"{path} cannot be read ({error}): remove it to start again") from error
        if json.loads(meta.get("recipe", "{}")) != asdict(self.recipe):
            raise AdapterlabError(f"{path} was written with other settings: give another --out, or remove it")
        names = {p: name for name, p in self.model.named_parameters()}
        for p, name in names.items():
            p.data.copy_(tensors.pop(f"model.{name}"))
        for optimizer in self.optimizers:
            for p in (p for group in optimizer.param_groups for p in group["params"]):
                end = f".{names[p]}"
                optimizer.state[p] = {k.removesuffix(end): t for k, t in tensors.items() if k.endswith(end)}
        self.step, self.seconds = int(meta["step"]), float(meta["seconds"])


CARD = """# adapterlab base{size}

A Llama-architecture language model of {parameters:,} parameters (hidden {hidden}, {layers} layers, {vocabulary:,} byte-level
BPE tokens) for experiments with adapters: small enough to train many adapters on two CPU cores, and trained well enough
that forgetting can be measured.

| | |
|---|---|
| data | the standard library of Python {python}: {train_files:,} files, {train_mb:.1f} MB; {heldout_files} library files, {heldout_kb:.0f} kB, held out (one in {heldout_in}, chosen by a hash of the path) |
| training | {steps:,} steps of {batch}x{context} tokens ({tokens:.1f} M tokens), Muon and AdamW, {minutes:.0f} minutes, CPU threads: {threads} |
| held-out loss | **{loss:.3f} nats per byte** (fp16 weights, windows of {context} tokens, at least half of that before each token) |
| xz of the same files, in nats per byte | {xz_alone:.3f} alone, {xz_after:.3f} with the training files before them |

Made with

    {command}

Load it with `AutoModelForCausalLM.from_pretrained(folder)`. It writes plausible Python and has no knowledge of facts; it is
meant for experiments, not as an assistant. The text that it was trained on is under the PSF licence.
"""


def export(training: Training, tokenizer: PreTrainedTokenizerFast, folder: Path) -> float:
    """Write the folder of the trained model, with its model card, whole or not at all.

    Args:
        training: The finished run; its model is converted to fp16.
        tokenizer: The tokenizer.
        folder: A folder that does not exist.

    Returns:
        The held-out loss of the written model, in nats per byte.
    """
    recipe = training.recipe
    partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        training.model.half().save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        model = LlamaForCausalLM.from_pretrained(partial, dtype=torch.float32).eval()
        heldout, train = documents("heldout"), documents("train")
        raw, before = ("".join(d.text for d in side).encode() for side in (heldout, train))
        loss = heldout_loss(model, encode(tokenizer, heldout), len(raw), recipe.context)
        card = CARD.format(
            size=f", {recipe.size}" if recipe.size else "",
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
            command=command_of(recipe),
        )
        (partial / "README.md").write_text(card, "utf-8")
        partial.chmod(0o755)
        partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return loss


def command_of(recipe: Recipe) -> str:
    """Return the command that makes a model by a recipe.

    Args:
        recipe: The recipe, with a width of `SIZES`.

    >>> command_of(Recipe(width=128))
    'adapterlab models pretrain 1m --steps 3200'
    """
    return f"adapterlab models pretrain {recipe.size} --steps {recipe.steps}"


def is_made(folder: Path, recipe: Recipe) -> bool:
    """Return True if a folder holds the model that a recipe makes, by its card.

    Args:
        folder: The folder.
        recipe: The recipe.

    Raises:
        AdapterlabError: If the folder holds something else.
    """
    card = folder / "README.md"
    if card.is_file() and f"    {command_of(recipe)}\n" in card.read_text("utf-8"):
        return True
    if folder.exists():
        raise AdapterlabError(f"{folder} exists, and is not what this command makes: give another --out, or remove it")
    return False


def pretrain(
    recipe: Recipe, folder: Path, every: int = 100, watch: Callable[[int, float], None] | None = None
) -> float:
    """Train a model and write it to a folder; resume from the checkpoint beside it if there is one.

    The checkpoint is `.NAME.checkpoint` beside the folder `NAME`, and is removed at the end.

    Args:
        recipe: Settings of the run.
        folder: Folder of the model, which does not exist.
        every: Steps between two checkpoints.
        watch: Called after each step with the number of steps done and the step's loss, in nats per token.

    Returns:
        The held-out loss of the written model, in nats per byte.

    Raises:
        AdapterlabError: If the folder exists or cannot be written, the checkpoint has other settings or is damaged, or this
            Python comes without the source of its library.
    """
    if folder.exists():
        raise AdapterlabError(f"{folder} exists: give another --out, or remove it")
    texts = documents("train")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        training = Training(recipe)
        checkpoint = folder.parent / f".{folder.name}.checkpoint"
        if checkpoint.exists():
            training.load(checkpoint)
        tokenizer = train_tokenizer(texts, recipe.vocabulary)
        order = torch.randperm(len(texts), generator=torch.Generator().manual_seed(recipe.seed))
        encoded = encode(tokenizer, texts)
        stream = torch.cat([encoded[i] for i in order.tolist()])
        while training.step < recipe.steps:
            loss = training.update(batch_at(stream, training.step, recipe))
            if training.step % every == 0 or training.step == recipe.steps:
                training.save(checkpoint)
            if watch is not None:
                watch(training.step, loss)
        heldout = export(training, tokenizer, folder)
        checkpoint.unlink()
    except OSError as error:
        raise AdapterlabError(f"cannot write {folder}: {error.strerror or error}") from error
    return heldout
