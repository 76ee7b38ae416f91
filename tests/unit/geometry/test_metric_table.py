"""The table of metrics names functions that exist, and says of each what it must."""

import inspect
from dataclasses import asdict

import pytest

from linrep.geometry.metric_table import METRICS


@pytest.mark.parametrize("name", METRICS)
def test_a_row_is_whole_and_about_a_documented_function(name):
    metric = METRICS[name]
    assert metric.name == name
    assert callable(metric.function) and inspect.getdoc(metric.function)
    assert all(value for value in asdict(metric).values() if value is not metric.function)


def test_every_metric_of_the_definitions_is_there():
    assert set(METRICS) >= {
        "parallelism", "parallelism_leave_one_out", "alignment", "orthogonality", "log_odds_residual", "share_in_span",
        "max_margin_gap", "balancedness", "steering_specificity", "interchange",
    }  # fmt: skip
    assert len({metric.function for metric in METRICS.values()}) == len(METRICS)
