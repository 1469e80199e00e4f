"""The pretrained encoders of Hugging Face's transformers."""

import torch
from torch import Tensor, nn

from temper.config.types import Count, checked
from temper.data.sources.pretrained_tokens import load_pretrained
from temper.models.external import check_logits
from temper.models.network import DropoutSlot, Network


class HFTransformer(Network):
    """A pretrained encoder (BERT and its kin): tokens (B, L) to logits, by way of scaled embeddings z (B, L, D). The last layer
    is new where it was trained for another number of classes, or for none. Its dropout is a penalty here.

    z is the network's own embeddings divided by sqrt(n D) r, n the number of tokens of the text and r the root mean square of
    embeddings over the tokens of the training split, each as often as it occurs there: as in `TextNetwork` a text is about as
    long as 1 in l2, a radius is a share of that, and embeddings that grow gain nothing. They are not centred, so that `forward`
    is what was pretrained. Padding is exactly 0.

    Args:
        name: on the Hugging Face hub, or a folder.
        tokenizer: that of the data, which must be the network's.
        length: tokens of a text.
        classes: number of logits.

    Attributes:
        frequency: how often each token occurs, (vocabulary,), adding up to 1; equally often until `observe` has seen.

    Raises:
        ValueError: it cannot be loaded, is no encoder, does not take texts of this length, or the data have other tokens.
    """

    frequency: Tensor

    @checked
    def __init__(self, *, name: str, tokenizer: str | None, length: Count, classes: Count) -> None:
        super().__init__()
        if tokenizer is None:
            raise ValueError(
                "tokenizer: the network needs the tokens that it was pretrained with; set data.tokenizer='${model.name}'"
            )
        config = load_pretrained("name", "AutoConfig", name, num_labels=classes)
        for key, value in config.to_dict().items():
            if "dropout" in key and isinstance(value, float):
                setattr(config, key, 0.0)
        # The other kernels of attention cannot be differentiated twice, as penalties on gradients ask for.
        module = load_pretrained(
            "name", "AutoModelForSequenceClassification", name,
            config=config, ignore_mismatched_sizes=True, attn_implementation="eager",
        )  # fmt: skip
        for place, layer in list(module.named_modules()):
            if isinstance(layer, nn.Dropout):
                module.set_submodule(place, DropoutSlot())
        if module.config.pad_token_id is None:
            raise ValueError(f"name: {name} has no token of padding; take an encoder, such as bert-base-uncased")
        self.name, self.pad = name, int(module.config.pad_token_id)
        self.module = module.float().train()  # it is loaded for evaluation, and in the precision of its file
        rows, dim = self._embedding.shape
        self.register_buffer("frequency", torch.full((rows,), 1 / rows))
        check_logits(self, f"name: {name}", (length, dim), classes, way_out="make data.length smaller")

    @property
    def _embedding(self) -> Tensor:
        weight: Tensor = self.module.get_input_embeddings().weight
        return weight

    @torch.no_grad()
    def observe(self, x: Tensor) -> None:
        counts = x[x != self.pad].bincount(minlength=len(self.frequency))
        if len(counts) > len(self.frequency):
            raise ValueError(
                f"model.name: {self.name} has {len(self.frequency)} tokens, but the data have token {len(counts) - 1}; "
                "set data.tokenizer='${model.name}'"
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
        """Of a text's embeddings if each were as long as the training split's are on average, (B, 1)."""
        # In float32 whatever the precision of the rest: a mean over a vocabulary adds up many small parts.
        with torch.autocast(present.device.type, enabled=False):
            square = self.frequency @ self._embedding.square().sum(1)
            return (present.sum(1, keepdim=True).clamp_min(1) * square).sqrt()
