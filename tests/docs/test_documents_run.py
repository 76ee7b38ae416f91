"""Every example and every Python block of the documents runs; every link to a file leads somewhere."""

import re
import runpy
from pathlib import Path

import pytest

from tests.fixtures.real_model import smollm2_folder

__all__ = ["smollm2_folder"]

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def _marked(example: Path):
    return pytest.param(example, marks=pytest.mark.hf if "import torch" in example.read_text("utf-8") else ())


@pytest.mark.parametrize(
    "example", [_marked(p) for p in sorted((ROOT / "examples").glob("*.py"))], ids=lambda p: p.stem
)
def test_examples(example, capsys):
    assert len(example.read_text(encoding="utf-8").splitlines()) < 60
    runpy.run_path(str(example), run_name="__main__")
    assert capsys.readouterr().out


def test_how_to_blocks(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    blocks = BLOCK.findall((ROOT / "docs/howto.md").read_text(encoding="utf-8"))
    assert len(blocks) == 4
    for block in blocks:
        if ".forward()" in block:
            continue  # below
        exec(compile(block, "howto.md", "exec"), {})
    assert "1.0" in capsys.readouterr().out


@pytest.mark.hf
@pytest.mark.smollm2
def test_how_to_block_of_hidden_states(smollm2_folder):
    blocks = BLOCK.findall((ROOT / "docs/howto.md").read_text(encoding="utf-8"))
    (block,) = (b for b in blocks if ".forward()" in b)
    names: dict = {}
    exec(compile(block, "howto.md", "exec"), names)
    assert (names["states"][15] == names["kept"][15]).all()


@pytest.mark.smollm2
def test_readme_block(smollm2_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (block,) = BLOCK.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(block.splitlines()) <= 12
    exec(compile(block, "README.md", "exec"), {})
    assert "causal noun–plural common direction" in capsys.readouterr().out
    assert (tmp_path / "directions.safetensors").is_file()


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))]
)
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert (ROOT / page).parent.joinpath(target).exists(), target


def test_the_tree_in_the_readme_is_the_tree():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"[├└]── (\w+)/", text))
    folders = {p.name for p in (ROOT / "src/linrep").iterdir() if p.is_dir() and not p.name.startswith("__")}
    assert listed == folders
