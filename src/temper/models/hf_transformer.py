"""Pretrained encoders of Hugging Face transformers."""

import torch
from torch import Tensor, nn

from temper.config.types import Count, checked
from temper.data.sources.pretrained_tokens import load_pretrained
from temper.models.external import check_logits
from temper.models.network import DropoutSlot, Network


class HFTransformer(Network):
    """A pretrained encoder such as BERT: tokens (B, L) to logits, through scaled embeddings z (B, L, D).

    The last layer is new if the network was pretrained for another number of classes, or for none. Dropout is removed; it is
    a penalty here.

    z is the network's own embeddings divided by sqrt(n D) r, where n is the number of tokens of the text and r is the root mean
    square of the embeddings over the tokens of the training split, weighted by frequency. As in `TextNetwork`, a text has an l2
    norm of about 1, a radius is a fraction of it, and larger embeddings gain nothing. Embeddings are not centered, so that
    `forward` computes the pretrained function. Padding is exactly 0.

    Args:
        name: Name on the Hugging Face hub, or a folder.
        tokenizer: Tokenizer of the data, which must be the network's.
        length: Tokens per text.
        classes: Number of logits.

    Attributes:
        frequency: Relative frequency of each token, (vocabulary,), with sum 1. Uniform until `observe` is called.

    Raises:
        ValueError: The network cannot be loaded, is not an encoder, or does not accept texts of this length, or the data has
            other tokens.
    """

    frequency: Tensor

    @checked
    def __init__(self, *, name: str, tokenizer: str | None, length: Count, classes: Count) -> None:
        super().__init__()
        if tokenizer is None:
            raise ValueError(
                "tokenizer: the network needs the tokens that it was pretrained with. Set data.tokenizer='${model.name}'."
            )
        config = load_pretrained("name", "AutoConfig", name, num_labels=classes)
        for key, value in config.to_dict().items():
            if "dropout" in key and isinstance(value, float):
                setattr(config, key, 0.0)
        # Other attention kernels are not twice differentiable, which penalties on gradients require.
        module = load_pretrained(
            "name", "AutoModelForSequenceClassification", name,
            config=config, ignore_mismatched_sizes=True, attn_implementation="eager",
        )  # fmt: skip
        for path, layer in list(module.named_modules()):
            if isinstance(layer, nn.Dropout):
                module.set_submodule(path, DropoutSlot())
        if module.config.pad_token_id is None:
            raise ValueError(f"name: {name} has no padding token. Use an encoder, such as bert-base-uncased.")
        self.name, self.pad = name, int(module.config.pad_token_id)
        self.module = module.float().train()  # transformers loads it in eval mode and in the precision of its file
        rows, dim = self._embedding.shape
        self.register_buffer("frequency", torch.full((rows,), 1 / rows))
        check_logits(self, f"name: {name}", (length, dim), classes, way_out="Reduce data.length.")

    @property
    def _embedding(self) -> Tensor:
        weight: Tensor = self.module.get_input_embeddings().weight
        return weight

    @torch.no_grad()
    def observe(self, x: Tensor) -> None:
        counts = x[x != self.pad].bincount(minlength=len(self.frequency))
        if len(counts) > len(self.frequency):
            raise ValueError(
                f"model.name={self.name}: the network has {len(self.frequency)} tokens, but the data has token "
                f"{len(counts) - 1}. "
                "Set data.tokenizer='${model.name}'."
            )
        self.frequency.copy_(counts / counts.sum())

    def lift(self, x: Tensor) -> Tensor:
        if x.is_floating_point():
            return x
        present = x != self.pad
        return nn.functional.embedding(x, self._embedding) * (present / self._length(present)).unsqueeze(2)

    def logits(self, z: Tensor) -> Tensor:
        present = (z != 0).any(2)
        embedded = z * (present * self._length(present)).unsqueeze(2)
        out: Tensor = self.module(inputs_embeds=embedded, attention_mask=present.long()).logits
        return out

    def _length(self, present: Tensor) -> Tensor:
        """Return the l2 norm of a text whose embeddings have the root mean square of the training split, (B, 1)."""
        # Always in float32: a mean over a vocabulary sums many small parts.
        with torch.autocast(present.device.type, enabled=False):
            square = self.frequency @ self._embedding.square().sum(1)
            return (present.sum(1, keepdim=True).clamp_min(1) * square).sqrt()
