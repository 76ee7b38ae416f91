"""Runs shared by the tests of the report: made once, read only."""

import pytest

from linrep.runs.store import Run
from tests.fixtures.experiments_run import experiments_run
from tests.fixtures.origins_run import origins_run
from tests.fixtures.report_runs import measured_run, simulated_run


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return simulated_run(tmp_path_factory.mktemp("runs") / "simulation")


@pytest.fixture(scope="session")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return measured_run(tmp_path_factory.mktemp("runs") / "model")


@pytest.fixture(scope="session")
def origins(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return origins_run(tmp_path_factory.mktemp("runs") / "origins")


@pytest.fixture(scope="session")
def experiments(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return experiments_run(tmp_path_factory.mktemp("runs") / "experiments")
