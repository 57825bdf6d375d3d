"""The comparison with other libraries: what it computes and prints, and what it says of a library that is not there."""

from __future__ import annotations

import importlib
import re
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from benchmarks.peers.adapters import ADAPTERS, OURS
from benchmarks.peers.case import (
    LAYERS,
    Case,
    Configuration,
    all_configurations,
    default_configurations,
    mean_loss,
    read_case,
    write_case,
)
from benchmarks.peers.measure import Agreement, Options, Row, agreement_of, alternate, measure
from benchmarks.peers.table import HEADER, line, section, where_behind
from benchmarks.peers.worker import first_line

HEAD = Configuration("head", vocabulary=64, length=16, directions=2)
MEASURED = Row("other", "1.0", ((3.0, 2.0), (2.0, 2.0), (2.4, 2.0)), 50.0, 40.0, Agreement(2e-7, 1.0), "note")


def test_pairs_take_turns_and_the_first_run_of_each_is_thrown_away():
    order: list[str] = []
    seconds = {"theirs": iter([99.0, 3.0, 4.0, 5.0]), "ours": iter([99.0, 1.0, 2.0, 4.0])}

    def run(name: str) -> float:
        order.append(name)
        return next(seconds[name])

    pairs = alternate(lambda: run("theirs"), lambda: run("ours"), 3)
    assert pairs == ((3.0, 1.0), (4.0, 2.0), (5.0, 4.0))
    assert order == ["theirs", "ours", "theirs", "ours", "ours", "theirs", "theirs", "ours"]


def test_ratios_are_taken_pair_by_pair():
    assert MEASURED.ratios == (1.5, 1.0, 1.2)


def test_a_line_gives_median_range_memory_and_agreement():
    assert line(MEASURED) == "| other (1.0) | 1.20 [1.00, 1.50] | 50 | 40 | 2.0e-07 | 1.0000 | note |"


def test_a_method_that_failed_keeps_its_line_and_cannot_break_the_table():
    printed = line(Row("other", "1.0", remark="ValueError: a | b\nsecond line"))
    assert printed == r"| other (1.0) | - | - | - | - | - | ValueError: a \| b second line |"
    columns = len(re.findall(r"(?<!\\)\|", HEADER.splitlines()[0]))
    assert len(re.findall(r"(?<!\\)\|", printed)) == len(re.findall(r"(?<!\\)\|", line(MEASURED))) == columns


def test_a_section_tells_our_speed_from_the_median_of_our_runs():
    assert "Ours: 500 tokens/s." in section(HEAD, [MEASURED], tokens=1000)
    assert "tokens/s" not in section(HEAD, [Row("other", remark="no")], tokens=1000)


def test_ours_is_behind_where_every_pair_says_so_or_memory_does():
    behind = where_behind(
        [
            (HEAD, [MEASURED, Row("faster", "", ((1.0, 2.0), (1.8, 2.0)), 50.0, 40.0)]),
            (HEAD, [Row("smaller", "", ((3.0, 2.0),), 30.0, 40.0), Row("failed", remark="no")]),
        ]
    )
    assert [text.split(": ")[1] for text in behind.splitlines()[1:]] == [
        "faster takes 0.70 [0.50, 0.90] of the time",
        "smaller takes 30 MiB, ours 40",
    ]
    assert "Nowhere." in where_behind([(HEAD, [MEASURED])])


def test_agreement_sees_scale_and_order_apart():
    ours = np.array([[1.0, 4.0], [2.0, 1.0], [3.0, 2.0]])
    same, doubled = agreement_of(ours, ours), agreement_of(2 * ours, ours)
    assert (same.relative_error, doubled.relative_error) == pytest.approx((0.0, 1.0))
    assert (same.spearman, doubled.spearman) == pytest.approx((1.0, 1.0))
    backwards = np.stack([ours[:, 0], -ours[:, 1]], axis=1)
    assert agreement_of(backwards, ours).spearman == pytest.approx(-1.0)  # the lowest of all directions


def test_only_the_first_line_of_an_error_is_kept():
    assert first_line(ValueError("first\nsecond")) == "ValueError: first"
    assert first_line(KeyboardInterrupt()) == "KeyboardInterrupt"


def test_the_default_configurations_are_some_of_all():
    chosen = default_configurations()
    assert set(chosen) < set(all_configurations())
    assert {configuration.layers for configuration in chosen} == set(LAYERS)


@pytest.mark.parametrize("layers", LAYERS)
def test_the_reference_methods_compute_what_ours_does(layers: str, tmp_path: Path):
    write_case(Configuration(layers, vocabulary=64, length=16, directions=2), 80, 32, tmp_path)
    ours = _scores(OURS, tmp_path)
    assert ours.shape == (5, 2)
    for name in ("autograd loop", "torch.func vmap"):
        assert agreement_of(_scores(name, tmp_path), ours).relative_error < 1e-5


def _scores(name: str, folder: Path) -> np.ndarray:
    (folder / name).mkdir()
    return importlib.import_module(ADAPTERS[name]).prepare(read_case(folder, folder / name))()


@pytest.mark.parametrize("layers", LAYERS)
def test_frozen_parameters_leave_gradients_at_every_scored_layer_and_nothing_below(layers: str, tmp_path: Path):
    write_case(Configuration(layers, vocabulary=64, length=16, directions=1), 32, 32, tmp_path)
    case = read_case(tmp_path, tmp_path)
    case.freeze_below()
    traced = _modules_with_gradients(case)
    assert set(case.query) <= traced
    below = {"embedding + head": set(), "head": {"model.layers.3.mlp.down_proj"}, "last block": {"model.layers.2"}}
    assert not below[layers] & traced
    assert sum(parameter.requires_grad for parameter in case.model.parameters()) == 1


def _modules_with_gradients(case: Case) -> set[str]:
    found = set()
    for name, module in case.model.named_modules():
        module.register_forward_hook(
            lambda module, inputs, output, name=name: (
                found.add(name) if getattr(output, "requires_grad", False) else None
            )
        )
    mean_loss(case.model, case.documents)
    return found


@pytest.mark.skipif(find_spec("trak") is not None, reason="TRAK is installed here")
def test_a_library_that_is_not_installed_is_a_line_of_the_report():
    missing, present = measure(HEAD, ["TRAK", "autograd loop"], Options(1, 32, 32, limit_seconds=120))
    assert missing == Row("TRAK", remark="ModuleNotFoundError: No module named 'trak'")
    assert present.agreement is not None
    assert present.agreement.relative_error < 1e-5
    assert len(present.pairs) == 1
