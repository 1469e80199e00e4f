"""Words for words: an attack that leaves a text which can be read."""

from collections.abc import Callable
from pathlib import Path

import torch
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS
from torch import Tensor

from temper.arguments import Count, Probability, checked
from temper.attacks.attack import Attack
from temper.attacks.losses import margin
from temper.attacks.probing import probing
from temper.attacks.wordnet import synonyms
from temper.data.batch import Batch
from temper.data.pretrained_tokens import PretrainedTokens
from temper.data.sources import Encoder
from temper.data.vocabulary import PAD, UNK, Vocabulary
from temper.models.network import Network


class Substitution(Attack):
    """Greedy substitution by synonyms, as in Ren et al. 2019 (https://aclanthology.org/P19-1103) and Jin et al. 2020
    (https://arxiv.org/abs/1907.11932): the words whose loss harms the network most are tried first, and each is exchanged for
    the synonym that raises the margin loss most, if one does, until the text is misclassified.

    It asks for logits alone. Synonyms are those of WordNet that the network knows; function words stay. What it returns are
    tokens of a real text, in no ball around the embeddings.

    Args:
        max_changed: largest share of a text's words; one is always allowed.
        most: synonyms that are tried for a word.
        wordnet: the folder with WordNet's files.
    """

    evaluation_only = True

    @checked
    def __init__(self, *, max_changed: Probability = 0.2, most: Count = 8, wordnet: str = "/usr/share/wordnet") -> None:
        super().__init__()
        self.max_changed, self.most, self.wordnet = max_changed, most, Path(wordnet).expanduser()

    def meet(self, encoder: Encoder | None) -> None:
        if isinstance(encoder, PretrainedTokens):
            raise ValueError(
                "it exchanges whole words, and data.tokenizer makes parts of words; take evaluation=standard, or set "
                "data.tokenizer to null and another model"
            )
        if not isinstance(encoder, Vocabulary):
            raise ValueError("it exchanges words, and these inputs are no texts")
        known = synonyms(self.wordnet)
        # By token, those that it may be exchanged for, (V, most), filled up by padding.
        self.table = torch.full((len(encoder.words), self.most), PAD)
        for word, token in encoder.tokens.items():
            if word not in ENGLISH_STOP_WORDS:
                others = [other for other in known.get(word, ()) if other not in ENGLISH_STOP_WORDS]
                found = [encoder.tokens[other] for other in others if other in encoder.tokens][: self.most]
                self.table[token, : len(found)] = torch.tensor(found, dtype=torch.int64)

    def perturb(self, net: Network, batch: Batch) -> Tensor:
        with probing(net, "eval"), torch.no_grad():
            return self._exchanged(net, batch.x.clone(), batch.y)

    def _exchanged(self, net: Network, x: Tensor, y: Tensor) -> Tensor:
        """Texts (B, L) int64, changed in place, and returned."""
        table, rows = self.table.to(x.device), len(x)

        def losses(texts: Tensor, y: Tensor) -> Tensor:
            """In batches as large as that of the texts."""
            parts = zip(texts.split(rows), y.split(rows), strict=True)
            return torch.cat([margin(net(part).float(), labels) for part, labels in parts])

        loss, changed = losses(x, y), torch.zeros_like(y)
        allowed = (self.max_changed * (x != PAD).sum(1)).floor().clamp_min(1)
        order, possible = self._order(losses, table, x, y)
        for place, can in zip(order.T, possible.T, strict=True):
            chosen = (can & (loss < 0) & (changed < allowed)).nonzero().squeeze(1)
            if len(chosen) == 0:
                continue
            others = table[x[chosen, place[chosen]]]
            tried = x[chosen].repeat_interleave(self.most, 0)
            tried[torch.arange(len(tried), device=x.device), place[chosen].repeat_interleave(self.most)] = others.flatten()
            found = losses(tried, y[chosen].repeat_interleave(self.most)).view(-1, self.most)
            best, which = found.masked_fill(others == PAD, -torch.inf).max(1)
            better = best > loss[chosen]
            taken = chosen[better]
            x[taken] = tried.view(-1, self.most, x.shape[1])[better, which[better]]
            loss[taken], changed[taken] = best[better], changed[taken] + 1
        return x

    def _order(self, losses: Callable[[Tensor, Tensor], Tensor], table: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """The places of each text, those first whose word the network can spare least, and whether there is a synonym for what
        stands there, (B, L) each."""
        possible = table[x][..., 0] != PAD
        example, place = possible.nonzero().unbind(1)
        importance = torch.full(x.shape, -torch.inf, device=x.device)
        if len(example):
            without = x[example].scatter(1, place[:, None], UNK)
            importance[example, place] = losses(without, y[example])
        order = importance.argsort(dim=1, descending=True, stable=True)
        return order, possible.gather(1, order)
