"""Tests of all penalties: compositions, every attack, soft targets, mixed precision, and resumed runs."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hydra.utils import get_class
from torch import Tensor, nn

from temper.config.composed import CONF
from temper.config.errors import ConfigError
from temper.data import Batch
from temper.models import MLP, Network, PreActResNet18
from temper.penalties import L1, L2, BatchNorm, Cutout, Dropout, Dynamic, LabelSmoothing, Noise, Penalties, Penalty, Weighted
from temper.penalties.penalty import has_term
from temper.training.modules import build_module
from tests.conftest import small_net
from tests.penalties.conftest import TERMS, Interrupt, checkpoint, composed, fit, images, normed_net, softened


def total(penalties: Penalties, net: Network, batch: Batch) -> Tensor:
    loss = penalties.weighted_sum(penalties.terms(net, batch, batch.x))
    assert loss is not None
    return loss


def test_a_penalty_without_effect_on_the_network_is_refused() -> None:
    resnet = PreActResNet18(shape=(3, 32, 32), classes=10, mean=[0.5] * 3, std=[0.5] * 3, width=2)
    with pytest.raises(ValueError, match=r"penalty.batch_norm: PreActResNet18 has no place .* no effect"):
        Penalties({"batch_norm": Weighted(BatchNorm(), 1)}).prepare(resnet)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["penalty=[batch_norm,group_norm]"], r"penalty\.group_norm: CNN has no place for group norm"),
        (["penalty=[spatial_dropout]", "model=mlp"], r"penalty\.spatial_dropout: MLP has no place for spatial dropout"),
        (["penalty=[stochastic_depth]"], r"penalty\.stochastic_depth: CNN has no place for stochastic depth"),
        (
            ["penalty=[batch_norm]", "model=preact_resnet18", "model.width=2"],
            r"penalty\.batch_norm: PreActResNet18",
        ),
    ],
)
def test_errors_name_the_penalty_that_does_not_fit_the_network(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_module(composed(*overrides))


def flat_data(*overrides: str) -> list[str]:
    """Return the overrides for a data set whose inputs are not images."""
    return ["model=mlp", "data.source._target_=tests.penalties.test_composition.Vectors", "data.shape=[12]", *overrides]


class Vectors:
    """Random vectors of 12 numbers in ten classes."""

    def load(self) -> object:
        from types import SimpleNamespace

        x = torch.rand(400, 12, generator=torch.Generator().manual_seed(0))
        y = torch.arange(400) % 10
        return SimpleNamespace(x_train=x[:300], y_train=y[:300], x_test=x[300:], y_test=y[300:])


@pytest.mark.parametrize("option", ["cutout", "crop_flip", "cutmix", "rotation"])
def test_penalties_for_images_are_refused_on_other_data(option: str) -> None:
    from temper.sweeps.preflight import validate

    with pytest.raises(ConfigError, match=rf"penalty\.{option}"):
        validate(composed(f"penalty=[{option}]", "data.mean=[0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5]",
                          "data.std=[1,1,1,1,1,1,1,1,1,1,1,1]", *flat_data()))  # fmt: skip


def test_the_order_of_members_has_no_effect(batch: Batch) -> None:
    members = {
        "l2": Weighted(L2(), 0.3),
        "label_smoothing": Weighted(LabelSmoothing(smoothing=0.1, classes=10), 1),
        "l1": Weighted(L1(), 0.1),
        "dropout": Weighted(Dropout(p=0.5), 1),
    }
    one, other = Penalties(members), Penalties(dict(reversed(members.items())))
    assert one.names == other.names == ["dropout", "label_smoothing", "l1", "l2"]
    net = small_net()
    assert torch.equal(total(one, net, batch), total(other, net, batch))
    expected = 0.1 * L1().term(net, batch, batch.x) + 0.3 * L2().term(net, batch, batch.x)
    assert torch.equal(total(one, net, batch), expected)


def test_a_term_of_weight_0_is_not_computed(batch: Batch) -> None:
    class Costly(Penalty):
        def term(self, net: Network, batch: Batch, x_adv: Tensor) -> Tensor:
            raise AssertionError("evaluated")

        def attacked_network(self, net: Network, batch: Batch, weight: float) -> Network:
            raise AssertionError("evaluated")

    penalties, net = Penalties({"costly": Weighted(Costly(), 0)}), small_net()
    assert penalties.terms(net, batch, batch.x) == {} and penalties.attacked_network(net, batch) is net
    assert penalties.weighted_sum({}) is None


def test_parameters_of_a_penalty_are_part_of_the_module() -> None:
    class Head(Penalty):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(2, 3)

    penalties = Penalties({"head": Weighted(Head(), 1)})
    assert len(list(penalties.parameters())) == 2
    assert copy.deepcopy(penalties).state_dict().keys() == penalties.state_dict().keys()


def test_random_draws_of_members_are_independent(batch: Batch) -> None:
    noise, cutout = Weighted(Noise(std=0.1), 1), Weighted(Cutout(share=0.5, fill=[-1.0]), 1)
    alone, both = Penalties({"noise": noise}), Penalties({"cutout": cutout, "noise": noise})
    assert both.names == ["cutout", "noise"]
    inputs = []
    for penalties in (alone, both):
        penalties.begin(3, 0.5, (7, 0, 3))
        inputs.append(penalties.transform(replace(batch, x=torch.full_like(batch.x, 0.5))).x)
    covered = inputs[1] <= 0.01
    assert covered.any() and torch.equal(inputs[0][~covered], inputs[1][~covered])
    # Different steps have different draws; the same step has the same.
    alone.begin(4, 0.5, (7, 0, 4))
    assert not torch.equal(alone.transform(batch).x, inputs[0])
    alone.begin(3, 0.5, (7, 0, 3))
    assert torch.equal(alone.transform(replace(batch, x=torch.full_like(batch.x, 0.5))).x, inputs[0])


def test_a_steered_term_is_computed_only_while_its_weight_is_not_0(batch: Batch) -> None:
    members = {"l2": Weighted(L2(), 0.3), "dynamic": Weighted(Dynamic(shape="step", first=0, last=1, end=0.5), 1)}
    penalties = Penalties(members)
    penalties.begin(0, 0.4, (0,))
    assert penalties.terms(small_net(), batch, batch.x) == {}
    penalties.begin(1, 0.5, (0,))
    assert list(penalties.terms(small_net(), batch, batch.x)) == ["l2"]


def test_factors_and_weights_are_in_the_checkpoint() -> None:
    def members() -> dict[str, Weighted]:
        return {"dropout": Weighted(Dropout(p=0.4), 1), "l2": Weighted(L2(), 0.3), "dynamic": Weighted(Dynamic(), 1)}

    one, other = Penalties(members()), Penalties(members())
    for penalties in (one, other):
        penalties.prepare(small_net())
    one.begin(0, 0.25, (0,))
    other.load_state_dict(one.state_dict())
    assert other.weight("l2") == pytest.approx(0.075) and other.metrics() == one.metrics()


def prepared(name: str, net: Network, batch: Batch) -> tuple[Penalty, Batch]:
    penalty = TERMS[name]()
    penalty.prepare(net)
    torch.manual_seed(0)
    return penalty, penalty.transform(batch)


@pytest.mark.parametrize("name", TERMS)
def test_every_term_accepts_soft_targets(name: str) -> None:
    net, batch = small_net(), images()
    penalty, batch = prepared(name, net, batch)
    terms = []
    for each in (batch, replace(batch, target=F.one_hot(batch.y, 10).float()), softened(batch)):
        torch.manual_seed(0)
        one = copy.deepcopy(penalty)
        if name == "rotation":
            one._turns = penalty._turns
        term = one.term(net, each, each.x)
        assert term is not None and term.ndim == 0 and torch.isfinite(term)
        terms.append(term)
    torch.testing.assert_close(terms[0], terms[1])
    uses_target = name in ("input_gradient", "curvature", "local_linearity")
    assert torch.equal(terms[0], terms[2]) != uses_target


def test_every_term_of_the_config_is_tested() -> None:
    kinds = {type(make()): name for name, make in TERMS.items()}
    names = set()
    for path in (Path(CONF) / "penalty").glob("*.yaml"):
        for node in composed(f"penalty=[{path.stem}]").penalties.values():
            if has_term(kind := get_class(node.target)):
                names.add(kinds[kind])
    assert names == set(TERMS)


@pytest.mark.parametrize("normed", [False, True])
@pytest.mark.parametrize("name", TERMS)
def test_every_term_in_mixed_precision(name: str, normed: bool) -> None:
    net = (normed_net() if normed else small_net()).train()
    penalty, batch = prepared(name, net, images(16))
    torch.manual_seed(1)
    if name == "self_distillation":
        net.load_state_dict((normed_net(1) if normed else small_net(1)).state_dict())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.manual_seed(0)
        term = penalty.term(net, batch, batch.x)
    assert term is not None and torch.isfinite(term) and term.dtype == torch.float32
    gradients = torch.autograd.grad(term, list(net.parameters()), allow_unused=True)
    assert any(gradient is not None and bool((gradient != 0).any()) for gradient in gradients)
    assert all(gradient is None or bool(torch.isfinite(gradient).all()) for gradient in gradients)
    # Equal to the term in float32 within the precision of bfloat16.
    again, _ = prepared(name, net, images(16))
    if name == "rotation":
        again.load_state_dict(penalty.state_dict())
    if name == "self_distillation":
        again.teacher = penalty.teacher
    torch.manual_seed(0)
    full_precision = again.term(net, batch, batch.x)
    assert full_precision is not None
    # Local linearity is a small difference of losses at a point found by a search, so its tolerance is larger.
    torch.testing.assert_close(term, full_precision, rtol=0.5 if name == "local_linearity" else 0.1, atol=0.01)


# One attack of each kind and all penalties.
ATTACKS = {
    "pgd": ["attack=pgd", "attack.steps=2"],
    "trades": ["attack=trades", "attack.steps=2"],
    "mart": ["attack=mart", "attack.steps=2"],
    "free": ["attack=free"],
    "multi_norm": ["attack=multi_norm", "attack.strategy=average", "attack.steps=1"],
    "evolving": ["attack=evolving"],
    "torchattacks": ["attack=torchattacks", "+attack.options.steps=2"],
    "vat": ["attack=vat"],
}
PENALTIES = {
    "controlled": ["penalty=[l2,controlled]"],
    "dynamic": ["penalty=[l2,dropout,dynamic]"],
    "meta": ["penalty=[l1,l2,meta]"],
    "stochastic_depth": ["penalty=[stochastic_depth]", "model=preact_resnet18", "model.width=2"],
    "relative": ["penalty=[l2]", "penalty.l2.relative=0.5"],
    **{
        option: [f"penalty=[{option}]"]
        for option in (
            "adaptive_weight_decay", "awp", "batch_norm", "confidence", "crop_flip", "curvature", "cutmix", "cutout", "dropout",
            "early_stopping", "elastic_net", "ema", "group_norm", "input_gradient", "jacobian", "l1", "l2", "label_smoothing",
            "local_linearity", "logit_squeezing", "max_norm", "mixup", "noise", "orthogonal", "rotation", "sam",
            "self_distillation", "sgd_decay", "spatial_dropout", "spectral", "spectral_norm", "swa", "weight_decay",
        )
    },
}  # fmt: skip


def test_every_penalty_is_tested_with_every_attack() -> None:
    options = {path.stem for path in (Path(CONF) / "penalty").glob("*.yaml")}
    assert options - {"none"} <= set(PENALTIES)


@pytest.mark.usefixtures("_outside_of_a_trainer")
@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("attack", ATTACKS)
def test_a_step_with_every_attack(attack: str, penalty: str, batch: Batch) -> None:
    if penalty == "rotation" and attack == "torchattacks":
        pytest.skip("torchattacks averages its loss over examples")
    small = () if penalty == "stochastic_depth" else ("model.width=4", "model.hidden=16")
    module = build_module(composed(*PENALTIES[penalty], *ATTACKS[attack], *small)).train()
    before = copy.deepcopy(module.state_dict())
    optimizer = module.optimizer(module.parameters())
    batch = batch.select(torch.arange(16))
    loss = module.training_step(batch, 0)
    assert loss.ndim == 0 and torch.isfinite(loss)
    loss.backward()
    module.on_after_backward()
    module.penalties.before_step(module.net, optimizer.param_groups[0]["lr"])
    optimizer.step()
    module.penalties.after_step(module.net)
    for name, value in module.net.named_parameters():
        assert torch.isfinite(value).all(), name
    assert any(not torch.equal(value, before[f"net.{name}"]) for name, value in module.net.named_parameters())
    assert all(parameter.requires_grad for parameter in module.net.parameters()) and module.net.training


RESUMED = {
    "ema": ["penalty=[ema]", "penalty.ema.decay=0.8"],
    "swa": ["penalty=[swa,batch_norm]", "penalty.swa.start=0.25"],
    "early_stopping": ["penalty=[early_stopping]", "penalty.early_stopping.patience=1", "optimizer.lr=1"],
    "patient": ["penalty=[early_stopping]", "penalty.early_stopping.patience=3", "optimizer.lr=1"],
    "stopped_before": ["penalty=[early_stopping]", "penalty.early_stopping.patience=1", "penalty.early_stopping.min_delta=1"],
    "controlled": ["penalty=[l2,dropout,controlled]"],
    "meta": ["penalty=[l1,l2,meta]", "penalty.meta.every=3"],
    "self_distillation": ["penalty=[self_distillation]"],
    "spectral": ["penalty=[spectral]"],
    "adaptive_weight_decay": ["penalty=[adaptive_weight_decay]"],
    "relative": ["penalty=[l2]", "penalty.l2.relative=0.5"],
    "dynamic": ["penalty=[dropout,awp,label_smoothing,dynamic]"],
    "data": ["penalty=[noise,cutout,mixup,crop_flip]", "attack=fgsm"],
    "rotation": ["penalty=[rotation,jacobian]", "attack=fgsm"],
    "spectral_norm": ["penalty=[spectral_norm,dropout]"],
}


END = {"stopped_before": 1}


@pytest.mark.parametrize("case", RESUMED)
def test_a_resumed_run_is_bit_identical_to_an_uninterrupted_one(case: str, tmp_path: Path) -> None:
    complete, interrupted = tmp_path / "complete", tmp_path / "interrupted"
    fit(complete, *RESUMED[case])
    fit(interrupted, *RESUMED[case], more=(Interrupt(),))
    stopped = checkpoint(interrupted)
    assert stopped["epoch"] == 1
    fit(interrupted, *RESUMED[case], resume=True)
    one, other = checkpoint(complete), checkpoint(interrupted)
    # A run that has ended is not trained further.
    assert one["epoch"] == other["epoch"] >= 1 and (case == "early_stopping" or one["epoch"] == END.get(case, 3))
    assert one["state_dict"].keys() == other["state_dict"].keys()
    for name, value in one["state_dict"].items():
        if isinstance(value, Tensor):
            assert torch.equal(value, other["state_dict"][name]), name
        else:
            assert value == other["state_dict"][name], name
    for name, value in one.get("trained_net", {}).items():
        assert torch.equal(value, other["trained_net"][name]), name
    assert one.get("stand_in") == other.get("stand_in")
    trained = [each.get("trained_net", each["state_dict"]) for each in (one, stopped)]
    unchanged = all(torch.equal(value, trained[1][name]) for name, value in trained[0].items() if isinstance(value, Tensor))
    assert unchanged == (one["epoch"] == 1)


def test_an_mlp_accepts_penalties_that_need_no_feature_maps() -> None:
    names = "[dropout,batch_norm,noise,mixup,label_smoothing,l2,orthogonal,jacobian,awp]"
    module = build_module(composed(f"penalty={names}", "model=mlp"))
    assert isinstance(module.net, MLP) and len(module.penalties) == 9


def test_weights_of_the_config_override_those_of_a_checkpoint(batch: Batch) -> None:
    """`ckpt_path` may name a run with another weight; only weights that training sets are restored."""
    one, other = Penalties({"l2": Weighted(L2(), 0.3)}), Penalties({"l2": Weighted(L2(), 0.5)})
    other.load_state_dict(one.state_dict())
    assert other.weight("l2") == 0.5
    steered = Penalties({"l2": Weighted(L2(), 0.3), "dynamic": Weighted(Dynamic(first=0.2), 1)})
    steered.begin(0, 0.0, (0,))
    other.load_state_dict(steered.state_dict())
    assert other.weight("l2") == 0.5
