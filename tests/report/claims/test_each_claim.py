"""Meaning of each claim: verdicts on small hand-made studies in which its sentence is true or false."""

import re

import pandas as pd
import pytest

from temper.report.claims.claim import Verdict, load_claims
from temper.report.claims.judgement import judge
from temper.report.statistics.paired_differences import PairedRuns
from tests.report.statistics.test_paired_differences import numbers

Study = dict[str, dict[str, list[float]]]  # by metric and cell: one value per seed
TRUE, FALSE, OPEN = Verdict.SUPPORTED, Verdict.CONTRADICTED, Verdict.UNDECIDED
CLAIMS = load_claims()
EXAMPLES = 10_000  # images in the test set

# By claim and verdict. Metrics and numbers follow from the sentence, not from conf/report/claims.yaml.
STUDIES: dict[str, dict[Verdict, list[Study]]] = {
    "adversarial_raises_robustness": {
        TRUE: [
            {"test/worst_case": {"none x none": [0.00, 0.01, 0.00], "pgd x none": [0.46, 0.47, 0.46]}},
            # At a large eps, one point is more as well.
            {"test/worst_case": {"none x none": [0.000, 0.001, 0.000], "trades x none": [0.012, 0.014, 0.013]}},
        ],
        # Catastrophic overfitting: the network is robust to the single step and to nothing else.
        FALSE: [{"test/worst_case": {"none x none": [0.012, 0.014, 0.013], "fgsm x none": [0.000, 0.001, 0.000]}}],
    },
    "adversarial_costs_more": {
        TRUE: [
            {
                "cost/seconds": {"none x l2": [612, 620, 607], "pgd x none": [4390, 4350, 4412]},
                "cost/gradient_evaluations": {"none x l2": [1, 1, 1], "pgd x none": [11, 11, 11]},
            },
            {
                "cost/seconds": {"none x dropout": [655, 661, 648], "trades x none": [5210, 5260, 5190]},
                "cost/gradient_evaluations": {"none x dropout": [1, 1, 1], "trades x none": [12, 12, 12]},
            },
        ],
        FALSE: [
            # Free adversarial training compared with a penalty on the gradient of every logit.
            {
                "cost/seconds": {"none x jacobian": [2480, 2455, 2490], "free x none": [640, 652, 637]},
                "cost/gradient_evaluations": {"none x jacobian": [10, 10, 10], "free x none": [1, 1, 1]},
            },
            # More seconds only: a single step costs as many gradients as sharpness-aware minimization.
            {
                "cost/seconds": {"none x sam": [1240, 1251, 1236], "fgsm x none": [1310, 1325, 1302]},
                "cost/gradient_evaluations": {"none x sam": [2, 2, 2], "fgsm x none": [2, 2, 2]},
            },
            # More gradients only: a penalty on curvature differentiates twice.
            {
                "cost/seconds": {"none x curvature": [2210, 2190, 2225], "pgd x none": [1840, 1822, 1851]},
                "cost/gradient_evaluations": {"none x curvature": [3, 3, 3], "pgd x none": [4, 4, 4]},
            },
        ],
    },
    "adversarial_lowers_clean": {
        TRUE: [
            {"test/clean": {"none x none": [0.951, 0.949, 0.952], "pgd x none": [0.842, 0.838, 0.845]}},
            {"test/clean": {"none x none": [0.951, 0.949, 0.952], "trades x none": [0.823, 0.827, 0.821]}},
        ],
        # As on text, where perturbed embeddings generalize better.
        FALSE: [{"test/clean": {"none x none": [0.911, 0.914, 0.909], "freelb x none": [0.926, 0.927, 0.923]}}],
        # As on MNIST, where both come near 100 %.
        OPEN: [{"test/clean": {"none x none": [0.9921, 0.9934, 0.9928], "pgd x none": [0.9930, 0.9922, 0.9926]}}],
    },
    "regularization_lowers_gap": {
        TRUE: [
            {"gap/clean": {"none x none": [0.061, 0.064, 0.060], "none x l2": [0.041, 0.043, 0.038]}},
            {"gap/clean": {"none x none": [0.061, 0.064, 0.060], "none x dropout": [0.048, 0.050, 0.049]}},
        ],
        FALSE: [{"gap/clean": {"none x none": [0.061, 0.064, 0.060], "none x label_smoothing": [0.071, 0.073, 0.071]}}],
    },
    "l1_makes_sparse": {
        TRUE: [
            {"weights/near_zero": {"none x none": [0.050, 0.052, 0.049], "none x l1": [0.871, 0.880, 0.866]}},
            # Eleven points are more than a tenth of the weights. Other penalties do not matter.
            {
                "weights/near_zero": {
                    "none x none": [0.050, 0.052, 0.049],
                    "none x l1": [0.160, 0.163, 0.158],
                    "none x dropout": [0.021, 0.024, 0.022],
                },
            },
        ],
        FALSE: [
            {"weights/near_zero": {"none x none": [0.050, 0.052, 0.049], "none x l1": [0.031, 0.034, 0.032]}},
            # Nine points are less than a tenth.
            {"weights/near_zero": {"none x none": [0.050, 0.052, 0.049], "none x l1": [0.141, 0.142, 0.138]}},
        ],
    },
    "l2_makes_small": {
        # The effect of another penalty that is added does not count.
        TRUE: [
            {
                "weights/norm": {
                    "none x none": [62.1, 62.8, 61.5],
                    "none x l2": [54.3, 54.9, 54.0],
                    "none x dropout + l2": [81.2, 82.0, 80.9],
                },
            },
        ],
        FALSE: [{"weights/norm": {"none x none": [62.1, 62.8, 61.5], "none x l2": [66.0, 67.1, 65.2]}}],
    },
    "elastic_net_does_both": {
        TRUE: [
            {
                "weights/near_zero": {"none x none": [0.050, 0.052, 0.049], "none x elastic_net": [0.742, 0.751, 0.739]},
                "weights/norm": {"none x none": [62.1, 62.8, 61.5], "none x elastic_net": [21.4, 21.9, 21.2]},
            },
            # Eleven points are sparse. Other penalties do not matter.
            {
                "weights/near_zero": {
                    "none x none": [0.050, 0.052, 0.049],
                    "none x elastic_net": [0.160, 0.163, 0.158],
                    "none x dropout": [0.021, 0.024, 0.022],
                },
                "weights/norm": {
                    "none x none": [62.1, 62.8, 61.5],
                    "none x elastic_net": [54.3, 54.9, 54.0],
                    "none x dropout": [81.2, 82.0, 80.9],
                },
            },
        ],
        FALSE: [
            # Nine points are not sparse, even if the weights are small.
            {
                "weights/near_zero": {"none x none": [0.050, 0.052, 0.049], "none x elastic_net": [0.141, 0.142, 0.138]},
                "weights/norm": {"none x none": [62.1, 62.8, 61.5], "none x elastic_net": [40.2, 40.8, 39.9]},
            },
            # Sparse, but the few remaining weights have grown.
            {
                "weights/near_zero": {"none x none": [0.050, 0.052, 0.049], "none x elastic_net": [0.742, 0.751, 0.739]},
                "weights/norm": {"none x none": [62.1, 62.8, 61.5], "none x elastic_net": [70.3, 71.5, 69.8]},
            },
        ],
    },
    "regularization_does_not_defend": {
        TRUE: [
            {"test/worst_case": {"none x none": [0.02, 0.03, 0.02], "none x dropout": [0.00, 0.00, 0.01]}},
            # Four points more are no robustness.
            {"test/worst_case": {"none x none": [0.020, 0.023, 0.021], "none x l2": [0.060, 0.064, 0.060]}},
        ],
        FALSE: [
            {"test/worst_case": {"none x none": [0.02, 0.03, 0.02], "none x jacobian": [0.31, 0.33, 0.32]}},
            # Six points more are robustness.
            {"test/worst_case": {"none x none": [0.020, 0.023, 0.021], "none x l2": [0.080, 0.084, 0.080]}},
        ],
        # Two, five and nine points more, by seed.
        OPEN: [{"test/worst_case": {"none x none": [0.02, 0.02, 0.02], "none x input_gradient": [0.04, 0.07, 0.11]}}],
    },
    "adversarial_beats_regularization": {
        TRUE: [
            {"test/worst_case": {"none x l2": [0.01, 0.02, 0.01], "pgd x none": [0.46, 0.47, 0.46]}},
            {"test/worst_case": {"none x dropout": [0.000, 0.001, 0.000], "trades x none": [0.012, 0.014, 0.013]}},
        ],
        FALSE: [{"test/worst_case": {"none x jacobian": [0.012, 0.014, 0.013], "fgsm x none": [0.000, 0.001, 0.000]}}],
    },
    "combined_balances": {
        TRUE: [
            # Only clean accuracy gains. Robust accuracy loses a point and a half, which is within the margin.
            {
                "test/worst_case": {"trades x none": [0.491, 0.498, 0.489], "trades x mixup": [0.476, 0.484, 0.473]},
                "test/clean": {"trades x none": [0.823, 0.827, 0.821], "trades x mixup": [0.835, 0.838, 0.834]},
                "gap/clean": {"trades x none": [0.101, 0.104, 0.102], "trades x mixup": [0.121, 0.125, 0.123]},
                "gap/robust": {"trades x none": [0.302, 0.309, 0.305], "trades x mixup": [0.322, 0.331, 0.327]},
            },
            # Only the gap shrinks.
            {
                "test/worst_case": {"free x none": [0.462, 0.470, 0.465], "free x l2": [0.471, 0.477, 0.473]},
                "test/clean": {"free x none": [0.831, 0.835, 0.829], "free x l2": [0.811, 0.816, 0.810]},
                "gap/clean": {"free x none": [0.101, 0.104, 0.102], "free x l2": [0.081, 0.083, 0.080]},
                "gap/robust": {"free x none": [0.302, 0.309, 0.305], "free x l2": [0.322, 0.331, 0.327]},
            },
            # Only the robust gap shrinks.
            {
                "test/worst_case": {"mart x none": [0.491, 0.498, 0.489], "mart x dropout": [0.502, 0.507, 0.500]},
                "test/clean": {"mart x none": [0.823, 0.827, 0.821], "mart x dropout": [0.801, 0.806, 0.800]},
                "gap/clean": {"mart x none": [0.101, 0.104, 0.102], "mart x dropout": [0.121, 0.125, 0.123]},
                "gap/robust": {"mart x none": [0.302, 0.309, 0.305], "mart x dropout": [0.152, 0.157, 0.154]},
            },
        ],
        FALSE: [
            # All three improve, but robust accuracy loses two and a half points.
            {
                "test/worst_case": {"pgd x none": [0.462, 0.470, 0.465], "pgd x cutmix": [0.437, 0.446, 0.439]},
                "test/clean": {"pgd x none": [0.831, 0.835, 0.829], "pgd x cutmix": [0.852, 0.855, 0.851]},
                "gap/clean": {"pgd x none": [0.101, 0.104, 0.102], "pgd x cutmix": [0.081, 0.083, 0.080]},
                "gap/robust": {"pgd x none": [0.302, 0.309, 0.305], "pgd x cutmix": [0.152, 0.157, 0.154]},
            },
            # Robust accuracy is kept, but nothing improves.
            {
                "test/worst_case": {"pgd x none": [0.462, 0.470, 0.465], "pgd x awp": [0.469, 0.476, 0.473]},
                "test/clean": {"pgd x none": [0.831, 0.835, 0.829], "pgd x awp": [0.819, 0.824, 0.818]},
                "gap/clean": {"pgd x none": [0.101, 0.104, 0.102], "pgd x awp": [0.112, 0.116, 0.114]},
                "gap/robust": {"pgd x none": [0.302, 0.309, 0.305], "pgd x awp": [0.313, 0.321, 0.317]},
            },
        ],
    },
    "more_than_the_sum": {
        TRUE: [
            # +1 and +40 points alone, +50 combined; the eps curve was not measured.
            {
                "test/worst_case": {
                    "none x none": [0.050, 0.052, 0.051],
                    "none x l2": [0.060, 0.063, 0.061],
                    "pgd x none": [0.450, 0.456, 0.452],
                    "pgd x l2": [0.550, 0.557, 0.551],
                },
            },
            # One point more than the sum, over the eps curve as well.
            {
                "test/worst_case": {
                    "none x none": [0.300, 0.302, 0.301],
                    "none x awp": [0.310, 0.312, 0.311],
                    "trades x none": [0.500, 0.503, 0.501],
                    "trades x awp": [0.523, 0.526, 0.525],
                },
                "curve/area": {
                    "none x none": [0.201, 0.203, 0.202],
                    "none x awp": [0.211, 0.213, 0.212],
                    "trades x none": [0.401, 0.404, 0.402],
                    "trades x awp": [0.424, 0.427, 0.426],
                },
            },
        ],
        FALSE: [
            # +11 and +40 points alone, +42 combined.
            {
                "test/worst_case": {
                    "none x none": [0.050, 0.052, 0.051],
                    "none x jacobian": [0.160, 0.163, 0.161],
                    "pgd x none": [0.450, 0.456, 0.452],
                    "pgd x jacobian": [0.470, 0.477, 0.471],
                },
            },
            # Floor effect: +1 and +40 points alone, +46 combined; but the penalty raises the odds tenfold alone and 1.3-fold
            # under the attack.
            {
                "test/worst_case": {
                    "none x none": [0.001, 0.001, 0.001],
                    "none x l2": [0.010, 0.011, 0.010],
                    "pgd x none": [0.400, 0.405, 0.402],
                    "pgd x l2": [0.460, 0.466, 0.463],
                },
            },
            # Near 100 %: the log odds gain more than the sum, the accuracy a point less.
            {
                "test/worst_case": {
                    "none x none": [0.500, 0.503, 0.498],
                    "none x l2": [0.800, 0.804, 0.799],
                    "pgd x none": [0.650, 0.653, 0.649],
                    "pgd x l2": [0.940, 0.942, 0.939],
                },
            },
            # At one eps only: over the whole eps curve less than the sum.
            {
                "test/worst_case": {
                    "none x none": [0.050, 0.052, 0.051],
                    "none x l2": [0.060, 0.063, 0.061],
                    "pgd x none": [0.450, 0.456, 0.452],
                    "pgd x l2": [0.550, 0.557, 0.551],
                },
                "curve/area": {
                    "none x none": [0.101, 0.104, 0.102],
                    "none x l2": [0.132, 0.134, 0.132],
                    "pgd x none": [0.401, 0.407, 0.404],
                    "pgd x l2": [0.422, 0.427, 0.423],
                },
            },
        ],
    },
    "adversarial_lowers_sensitivity": {
        TRUE: [
            {"test/sensitivity_adversarial": {"none x none": [0.86, 0.89, 0.84], "pgd x none": [0.11, 0.12, 0.11]}},
            {"test/sensitivity_adversarial": {"none x none": [0.052, 0.055, 0.051], "trades x none": [0.041, 0.043, 0.041]}},
        ],
        FALSE: [{"test/sensitivity_adversarial": {"none x none": [0.052, 0.055, 0.051], "fgsm x none": [0.063, 0.066, 0.063]}}],
    },
    "combined_is_smoother": {
        TRUE: [
            {"test/sensitivity_adversarial": {"pgd x none": [0.112, 0.118, 0.110], "pgd x l2": [0.083, 0.087, 0.082]}},
            {"test/sensitivity_adversarial": {"trades x none": [0.072, 0.075, 0.071], "trades x awp": [0.061, 0.063, 0.061]}},
        ],
        FALSE: [{"test/sensitivity_adversarial": {"pgd x none": [0.112, 0.118, 0.110], "pgd x sam": [0.131, 0.136, 0.130]}}],
    },
    "adversarial_helps_under_shift": {
        # More accurate under noise and blur, less under fog and contrast.
        TRUE: [
            {"corruptions/mean": {"none x none": [0.722, 0.731, 0.719], "pgd x none": [0.761, 0.766, 0.759]}},
            {"corruptions/mean": {"none x none": [0.722, 0.731, 0.719], "trades x none": [0.734, 0.742, 0.730]}},
        ],
        FALSE: [{"corruptions/mean": {"none x none": [0.722, 0.731, 0.719], "pgd x none": [0.710, 0.718, 0.708]}}],
    },
    "regularization_shows_in_validation": {
        TRUE: [
            {
                "val/clean": {"none x none": [0.931, 0.934, 0.930], "none x l2": [0.946, 0.950, 0.944]},
                "val/loss_instability": {"none x none": [0.121, 0.128, 0.118], "none x l2": [0.041, 0.045, 0.040]},
            },
            # Slightly more accurate and slightly more stable.
            {
                "val/clean": {"none x none": [0.931, 0.934, 0.930], "none x mixup": [0.941, 0.943, 0.939]},
                "val/loss_instability": {"none x none": [0.121, 0.124, 0.120], "none x mixup": [0.110, 0.112, 0.109]},
            },
        ],
        FALSE: [
            # More accurate, but less stable.
            {
                "val/clean": {"none x none": [0.931, 0.934, 0.930], "none x cutmix": [0.951, 0.953, 0.949]},
                "val/loss_instability": {"none x none": [0.121, 0.124, 0.120], "none x cutmix": [0.132, 0.136, 0.131]},
            },
            # More stable, but less accurate.
            {
                "val/clean": {"none x none": [0.931, 0.934, 0.930], "none x l1": [0.920, 0.924, 0.920]},
                "val/loss_instability": {"none x none": [0.121, 0.128, 0.118], "none x l1": [0.011, 0.013, 0.011]},
            },
        ],
    },
    "dynamic_beats_fixed": {
        TRUE: [
            # Better than the weight that is best on the validation split. Another weight is better by luck on the test set,
            # and another penalty is not a fixed version of this one.
            {
                "val/pgd": {
                    "pgd x l2 (strength=1)": [0.491, 0.497, 0.489],
                    "pgd x l2 (strength=3)": [0.462, 0.466, 0.460],
                    "pgd x awp": [0.521, 0.526, 0.520],
                    "pgd x dynamic + l2": [0.482, 0.487, 0.481],
                },
                "test/worst_case": {
                    "pgd x l2 (strength=1)": [0.462, 0.468, 0.461],
                    "pgd x l2 (strength=3)": [0.491, 0.496, 0.490],
                    "pgd x awp": [0.502, 0.507, 0.501],
                    "pgd x dynamic + l2": [0.474, 0.481, 0.472],
                },
            },
            {
                "val/pgd": {"trades x dropout": [0.511, 0.517, 0.509], "trades x controlled + dropout": [0.531, 0.536, 0.530]},
                "test/worst_case": {
                    "trades x dropout": [0.491, 0.497, 0.490],
                    "trades x controlled + dropout": [0.511, 0.516, 0.509],
                },
            },
        ],
        FALSE: [
            # Better than the weakest fixed weight and than their average, but worse than the best.
            {
                "val/pgd": {
                    "pgd x l2 (strength=1)": [0.421, 0.427, 0.420],
                    "pgd x l2 (strength=3)": [0.512, 0.516, 0.510],
                    "pgd x dynamic + l2": [0.492, 0.499, 0.490],
                },
                "test/worst_case": {
                    "pgd x l2 (strength=1)": [0.401, 0.406, 0.400],
                    "pgd x l2 (strength=3)": [0.492, 0.497, 0.490],
                    "pgd x dynamic + l2": [0.472, 0.479, 0.471],
                },
            },
        ],
    },
    "self_supervision_adds_robustness": {
        TRUE: [
            {"test/worst_case": {"pgd x none": [0.462, 0.470, 0.465], "pgd x rotation": [0.493, 0.502, 0.494]}},
            # With another penalty on both sides, the term is the only difference.
            {"test/worst_case": {"trades x l2": [0.491, 0.498, 0.489], "trades x l2 + rotation": [0.512, 0.518, 0.511]}},
        ],
        FALSE: [{"test/worst_case": {"pgd x none": [0.462, 0.470, 0.465], "pgd x rotation": [0.452, 0.459, 0.454]}}],
    },
}
CASES = [
    pytest.param(name, verdict, study, id=f"{name}-{verdict}-{number}")
    for name, by_verdict in STUDIES.items()
    for verdict, studies in by_verdict.items()
    for number, study in enumerate(studies)
]


def runs(study: Study) -> PairedRuns:
    """Return the metrics of a study whose cells are named as in a report: "pgd x l2 (strength=3)"."""
    tables = []
    for metric, cells in study.items():
        for name, values in cells.items():
            match = re.fullmatch(r"(\S+) x (.+?)(?: \((.+)\))?", name)
            assert match, name
            attack, penalty, setting = match.groups("")
            tables.append(numbers({(attack, penalty): values}, metric, setting))
    return PairedRuns.of(pd.concat(tables))


def test_each_claim_has_a_true_and_a_false_study() -> None:
    assert STUDIES.keys() == CLAIMS.keys()
    assert all({TRUE, FALSE} <= by_verdict.keys() for by_verdict in STUDIES.values())


@pytest.mark.parametrize(("name", "verdict", "study"), CASES)
def test_the_verdict_follows_the_sentence(name: str, verdict: Verdict, study: Study) -> None:
    assert judge({name: CLAIMS[name]}, runs(study), "by hand", EXAMPLES).verdicts[name] == verdict, CLAIMS[name].sentence
