"""Tests of pretrained encoders, with tiny networks of random weights: logits, embeddings, tokenizers and attacks."""

import json
import logging
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from temper.attacks import L2, PGD, Substitution
from temper.config.cell import identity
from temper.data import Batch, DataError
from temper.data.sources.pretrained_tokens import PretrainedTokens
from temper.models import HFTransformer, Network
from temper.models.network import DropoutSlot
from temper.penalties import Curvature, Dropout, InputGradient
from temper.penalties.penalty import Penalty
from temper.sweeps.preflight import validate
from tests.conftest import FILES, composed

transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

REVIEWS, WORDNET = FILES / "reviews.csv", FILES / "wordnet"
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "the", "film", "good", "bad", "##s", "##ly", "mov", "##ie"]
TEXTS = ["the good films", "bad", "a zebra badly"]
INFINITE = {"lower": -torch.inf, "upper": torch.inf}


@pytest.fixture(scope="module", params=["DistilBert", "Bert"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a folder to which `save_pretrained` wrote a model without a classification head, and its tokenizer."""
    path = tmp_path_factory.mktemp(request.param)
    sizes = {
        "DistilBert": {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32},
        "Bert": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32},
    }[request.param]
    config = getattr(transformers, f"{request.param}Config")(vocab_size=len(WORDS), max_position_embeddings=16, **sizes)
    torch.manual_seed(0)
    getattr(transformers, f"{request.param}Model")(config).save_pretrained(path)
    (path / "vocab.txt").write_text("\n".join(WORDS))
    transformers.BertTokenizerFast(str(path / "vocab.txt")).save_pretrained(path)
    return str(path)


@pytest.fixture(scope="module")
def byte_level(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the folder of a byte-level, case-sensitive tokenizer, whose tokens include the blanks before a word."""
    path = tmp_path_factory.mktemp("Roberta")
    characters = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    words = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *characters, "ab", "Ġa"]
    vocabulary = {word: token for token, word in enumerate(words)}
    transformers.RobertaTokenizerFast(vocab=vocabulary, merges=[("a", "b"), ("Ġ", "a")]).save_pretrained(path)
    return str(path)


def build(folder: str) -> tuple[HFTransformer, Batch]:
    torch.manual_seed(0)
    net, tokens = HFTransformer(name=folder, tokenizer=folder, length=8, classes=3), PretrainedTokens(folder, length=8)
    x = tokens(TEXTS)
    net.observe(x)
    return net.eval(), replace(Batch.of(x, torch.tensor([0, 1, 2])), mask=tokens.mask(x))


def test_texts_are_encoded_with_the_tokens_of_the_model(folder: str) -> None:
    tokens = PretrainedTokens(folder, length=6)
    x = tokens(TEXTS)
    assert x.tolist() == [[2, 6, 8, 7, 10, 3], [2, 9, 3, 0, 0, 0], [2, 5, 1, 9, 11, 3]]
    assert tokens.mask(x)[..., 0].tolist() == [[0, 1, 1, 1, 1, 0], [0, 1, 0, 0, 0, 0], [0, 1, 1, 1, 1, 0]]
    assert PretrainedTokens(folder, length=4)(TEXTS).tolist() == [[2, 6, 8, 3], [2, 9, 3, 0], [2, 5, 1, 3]]


def test_join_inverts_split(folder: str) -> None:
    tokens = PretrainedTokens(folder, length=8)
    x = tokens([*TEXTS, "", "the film, bad", "film"])
    assert tokens.split(x)[:3] == [["the", " good", " films"], ["bad"], ["a", " [", "UNK", "]", " badly"]]
    assert torch.equal(tokens.join(tokens.split(x)), x)


@given(text=st.text(alphabet="abcE é.,'😀 \n", max_size=12))
def test_join_inverts_split_for_a_byte_level_tokenizer(byte_level: str, text: str) -> None:
    tokens = PretrainedTokens(byte_level, length=60)
    x = tokens([text.rstrip()])
    assert torch.equal(tokens.join(tokens.split(x)), x)


def test_cut_texts_are_logged(folder: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="temper"):
        PretrainedTokens(folder, length=5).log_cuts(TEXTS)
    assert "2 of 3 in the training split are cut to data.length=5 tokens" in caplog.text


def test_logits_equal_those_of_transformers(folder: str) -> None:
    net, batch = build(folder)
    expected = net.module(input_ids=batch.x, attention_mask=(batch.x != 0).long()).logits
    torch.testing.assert_close(net(batch.x), expected)
    assert torch.equal(net(net.lift(batch.x)), net(batch.x)) and net(batch.x).shape == (3, 3)


def test_padding_and_the_other_texts_of_a_batch_have_no_effect(folder: str) -> None:
    net, batch = build(folder)
    together = net(F.pad(batch.x, (0, 3)))
    for row, text in enumerate(batch.x):
        torch.testing.assert_close(net(text[text != 0][None])[0], together[row])
    z = net.lift(batch.x).detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(net(z)[:, 0].sum(), z)
    assert (gradient[batch.x == 0] == 0).all() and (gradient[batch.x != 0] != 0).any(1).all()


def test_lifted_texts_have_norm_1_for_any_scale_of_the_embeddings(folder: str) -> None:
    net, batch = build(folder)
    z, words = net.lift(batch.x), (batch.x != 0).sum(1).float()
    torch.testing.assert_close(z.flatten(1).square().sum(1) @ words, words.sum())
    with torch.no_grad():
        net._embedding.mul_(1000)
    torch.testing.assert_close(net.lift(batch.x), z)


def test_adversarial_points_keep_special_tokens_and_give_embeddings_gradients(folder: str) -> None:
    net, batch = build(folder)
    threat = L2(eps=0.1, **INFINITE)
    attack = PGD(threat=threat, steps=2)
    x_adv, z = attack.perturb(net, batch), net.lift(batch.x)
    fixed = cast(Tensor, batch.mask)[..., 0] == 0
    assert torch.equal(x_adv[fixed], z[fixed]) and not torch.equal(x_adv, z)
    assert (threat.length(x_adv - z) <= 0.1 * (1 + 1e-5)).all()
    attack.risk(net, batch, x_adv).sum().backward()
    gradient = net._embedding.grad
    assert gradient is not None and (gradient[batch.x[batch.x != 0]] != 0).any(1).all()


@pytest.mark.parametrize("penalty", [InputGradient(), Curvature(h=0.1)], ids=lambda penalty: type(penalty).__name__)
def test_penalties_on_gradients_have_correct_gradients_for_the_embeddings(penalty: Penalty, folder: str) -> None:
    """Compare the derivative with respect to the embedding with a finite difference."""
    net, batch = build(folder)
    net, batch = net.double(), replace(batch, mask=cast(Tensor, batch.mask).double())

    def term() -> Tensor:
        torch.manual_seed(1)
        return cast(Tensor, penalty.term(net, batch, batch.x))

    weight = net._embedding
    (gradient,) = torch.autograd.grad(term(), weight)
    direction = gradient / gradient.norm()
    with torch.no_grad():
        weight.add_(1e-4 * direction)
    above = term().detach()
    with torch.no_grad():
        weight.sub_(2e-4 * direction)
    torch.testing.assert_close((gradient * direction).sum(), (above - term().detach()) / 2e-4, rtol=1e-2, atol=1e-6)


def test_a_new_network_is_in_train_mode(folder: str) -> None:
    """Networks are loaded in eval mode by transformers, and Lightning does not change the mode."""
    assert all(part.training for part in HFTransformer(name=folder, tokenizer=folder, length=8, classes=3).modules())


def test_dropout_is_a_penalty(folder: str) -> None:
    """Without the penalty there is no dropout; with it, every dropout layer of the original is back, also in attention."""
    net, batch = build(folder)
    net.train()
    assert torch.equal(net(batch.x), net(batch.x))
    with torch.no_grad():
        plain = net(batch.x)
    slots = sum(isinstance(part, DropoutSlot) for part in net.modules())
    filled = Dropout(p=0.5).prepare(net)
    assert not torch.equal(filled(batch.x), filled(batch.x))
    assert sum(isinstance(part, nn.Dropout) for part in filled.modules()) == slots
    torch.testing.assert_close(filled.eval()(batch.x), plain)
    library = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    assert slots == sum(isinstance(part, nn.Dropout) for part in library.modules()) > 4


class TokenScores(Network):
    """Network with the logits (0, sum of the scores of the tokens)."""

    def __init__(self, **scores: float) -> None:
        super().__init__()
        self.register_buffer("score", torch.tensor([scores.get(word.strip("[]#"), 0.0) for word in WORDS]))

    def lift(self, x: Tensor) -> Tensor:
        return x if x.is_floating_point() else self.score[x]  # type: ignore[index]

    def logits(self, z: Tensor) -> Tensor:
        return torch.stack([torch.zeros(len(z)), z.sum(1)], dim=1)


def test_a_word_is_substituted_by_a_word_of_several_tokens(folder: str) -> None:
    tokens, net = PretrainedTokens(folder, length=9), TokenScores(good=1.0, film=1.0, mov=0.3, ie=0.3, UNK=1.5)
    attack = Substitution(wordnet=str(WORDNET))
    attack.set_encoder(tokens)
    x = tokens(["the good film, a  film", "Film", "the"])
    x_adv = attack.perturb(net, Batch.of(x, torch.ones(3, dtype=torch.int64)))
    # "fine" would help but has no token here. Of two films the first is substituted, and case does not matter.
    assert torch.equal(x_adv, tokens(["the good movie, a film", "movie", "the"]))


def test_a_substitution_cuts_no_word_off_the_text(folder: str) -> None:
    """A text has seven tokens, including both ends. "movie" has two tokens and would push out the last word, "good"."""
    net = TokenScores(good=1.0, film=1.0, mov=0.3, ie=0.3)
    for text, expected in (("the film the the good", "the film the the good"), ("the film the good", "the movie the good")):
        tokens, attack = PretrainedTokens(folder, length=7), Substitution(wordnet=str(WORDNET))
        attack.set_encoder(tokens)
        x_adv = attack.perturb(net, Batch.of(tokens([text]), torch.ones(1, dtype=torch.int64)))
        assert torch.equal(x_adv, tokens([expected]))


def test_other_tokens_and_long_texts_raise(folder: str) -> None:
    net, _ = build(folder)
    with pytest.raises(ValueError, match=r"has 14 tokens, but the data has token 14\. Set data\.tokenizer='\$\{model\.name\}'"):
        net.observe(torch.tensor([[14]]))
    with pytest.raises(ValueError, match=r"tokenizer: the network needs the tokens .*Set data\.tokenizer='\$\{model\.name\}'"):
        HFTransformer(name=folder, tokenizer=None, length=8, classes=3)
    with pytest.raises(ValueError, match=r"name: .* does not accept inputs of shape \[17, 16\].*Reduce data\.length"):
        HFTransformer(name=folder, tokenizer=folder, length=17, classes=3)


def test_names_that_cannot_be_loaded_raise_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=r"name: transformers cannot load no-such-model .*without a network, a folder"):
        HFTransformer(name="no-such-model", tokenizer="no-such-model", length=8, classes=3)
    with pytest.raises(DataError, match=r"data\.tokenizer: transformers cannot load no-such-model"):
        PretrainedTokens("no-such-model", length=8)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ValueError, match=r"not installed\. Run pip install 'temper\[text\]'"):
        HFTransformer(name="no-such-model", tokenizer="no-such-model", length=8, classes=3)


def options(folder: str) -> tuple[str, ...]:
    data = ("data=csv_text", f"data.source.path={REVIEWS}", "data.length=12", "data.val_fraction=0.2", "evaluation.norm=l2")
    return (*data, "model=hf_transformer", f"model.name={folder}", "optimizer=adam", "attack=pgd_l2", "evaluation=quick")


def test_a_missing_tokenizer_raises(folder: str) -> None:
    with pytest.raises(ValueError, match=r"model\.tokenizer: .*Set data\.tokenizer="):
        validate(composed(*options(folder)))
    validate(composed(*options(folder), "data.tokenizer=${model.name}", "penalty=[l2,input_gradient]"))


def test_the_tokenizer_is_a_part_of_the_identity_and_no_tokenizer_is_none(folder: str) -> None:
    plain = [option for option in options(folder) if "model" not in option]
    without, named = (identity(composed(*plain, "model=text_cnn", *more)) for more in ((), (f"data.tokenizer={folder}",)))
    assert "tokenizer" not in without["data"] and "tokenizer" not in without["data"]["source"]
    assert named["data"]["source"]["tokenizer"] == folder


@pytest.mark.slow
def test_training_run_of_a_pretrained_encoder(folder: str, temper: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    status, output = temper(
        "train", *options(folder), "data.tokenizer=${model.name}", "trainer.max_epochs=2", "seed=0", "study=pretrained"
    )
    assert status == 0, output
    (path,) = tmp_path.glob("outputs/pretrained/*/seed-0/result.json")
    (evaluation,) = json.loads(path.read_text())["evaluations"].values()
    for checkpoint in evaluation["checkpoints"].values():
        assert checkpoint["metrics"]["test/clean"] >= checkpoint["metrics"]["test/worst_case"] >= 0
