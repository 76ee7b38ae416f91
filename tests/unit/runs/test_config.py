"""Configurations: TOML under options, and one line for every way they can be wrong."""

import pytest

from linrep.errors import ConfigError
from linrep.runs.config import load_config
from linrep.studies.simulation import SimulationConfig


def write(tmp_path, text, encoding="utf-8"):
    path = tmp_path / "world.toml"
    path.write_bytes(text.encode(encoding))
    return path


def test_options_win_over_the_file_and_the_file_over_defaults(tmp_path):
    path = write(tmp_path, "concepts = 4\nseeds = 3\n")
    config = load_config(SimulationConfig, path, {"seeds": 7, "steps": None})
    assert (config.concepts, config.seeds, config.steps) == (4, 7, SimulationConfig().steps)


def test_a_dumped_configuration_loads_to_itself(tmp_path):
    import tomli_w

    config = SimulationConfig(concepts=3, laws=("at-most-1",), dims=(2, 7))
    path = write(tmp_path, tomli_w.dumps(config.model_dump(mode="json")))
    assert load_config(SimulationConfig, path, {}) == config


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("concpts = 4", "did you mean 'concepts'"),
        ("concepts = 0", "concepts: .*greater than or equal to 1, not 0"),
        ("laws = ['at-most-x']", "laws.0: "),
        ("dims = []", "dims: "),
        ("seeds = ", "not valid TOML"),
        ("step_size = -1.0", "step_size: "),
    ],
)
def test_one_clear_line(tmp_path, text, says):
    with pytest.raises(ConfigError, match=says) as caught:
        load_config(SimulationConfig, write(tmp_path, text), {})
    assert "\n" not in str(caught.value)


def test_unreadable_files(tmp_path):
    with pytest.raises(ConfigError, match="not valid TOML"):
        load_config(SimulationConfig, write(tmp_path, "name = 'é'", "latin-1"), {})
    with pytest.raises(ConfigError, match="cannot read"):
        load_config(SimulationConfig, tmp_path / "absent.toml", {})
