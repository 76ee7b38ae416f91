"""Shape and type checks of every annotated function run in the tests."""

import os

os.environ.setdefault("JAX_NUMPY_DTYPE_PROMOTION", "strict")
os.environ.setdefault("JAX_NUMPY_RANK_PROMOTION", "raise")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
from jaxtyping import install_import_hook

# Not the command line: typer reads its annotations as options, and there are no arrays in it.
CHECKED = ("concepts", "geometry", "learning", "models", "report", "runs", "studies", "theory", "worlds")
hook = install_import_hook([f"linrep.{name}" for name in CHECKED], "beartype.beartype")


@pytest.fixture(autouse=True, scope="session")
def _states_of_tests(tmp_path_factory):
    """States of tiny models go to a folder of this session, not to the user's cache."""
    from linrep.models import states

    folder = tmp_path_factory.mktemp("states")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(states, "cache_folder", lambda: folder)
        yield


def _no_skip_in_ci(report):
    """In CI a skipped test is a failed test: nothing that guards main may quietly not run."""
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome, report.longrepr = "failed", f"skipped, which is a failure in CI: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    return _no_skip_in_ci((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report():
    return _no_skip_in_ci((yield))
