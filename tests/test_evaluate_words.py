"""The measurement of words: every prompt, every judge, and the content of the tables."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from test_clean import Bright
from test_recipes import recipe

from stylegan_hub.metrics.edit_success import edit_report, lacks, shows
from stylegan_hub.metrics.judges import Judges
from stylegan_hub.models.recognizer import Recognizer
from stylegan_hub.portraits.attributes import ATTRIBUTES, label_index
from stylegan_hub.portraits.reader import AttributeReader, Reading


def of(**labels: list[str]) -> Reading:
    """A reading of faces that differ from the first value of each attribute as given."""
    count = len(next(iter(labels.values())))
    values = {name: torch.zeros(count, dtype=torch.int64) for name in ATTRIBUTES}
    values["hair_style"] += label_index("hair_style", "long")
    for name, words in labels.items():
        values[name] = torch.tensor([label_index(name, word) for word in words])
    return Reading(ATTRIBUTES, {}, values)


def test_any_of_several_values_will_do() -> None:
    before = of(hair_style=["long", "mohawk", "long", "bob"])
    after = of(hair_style=["spiky", "mohawk", "long", "mohawk"])
    target = {"hair_style": ["mohawk", "spiky"]}
    assert shows(after, target).tolist() == [True, True, False, True]
    assert lacks(before, target).tolist() == [True, False, True, True]
    report = edit_report(before, after, target)
    assert report.success == pytest.approx(2 / 3) and report.count == 3


@pytest.mark.filterwarnings("ignore::stylegan_hub.methods.fit.PoorFitWarning")
def test_every_prompt_is_measured_by_every_judge(
    tiny_pipeline_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate = recipe("evaluate_words")
    monkeypatch.setattr(evaluate, "POOL", 24)
    prompts = [{"text": "a hat", "facts": {"hat": ["yes"]}} for _ in range(2)]
    (tmp_path / "prompts.json").write_text(json.dumps(prompts))
    (tmp_path / "foreign.json").write_text(json.dumps(["a dog", "remove everything"]))
    AttributeReader().save_pretrained(tmp_path / "reader")
    judges = Judges(None, Bright(), Recognizer().eval())  # type: ignore[arg-type]
    monkeypatch.setattr(evaluate, "judges_for", lambda *_: judges)
    config = evaluate.Config(
        output_dir=tmp_path / "out", pipeline=str(tiny_pipeline_folder), methods=("gradient",),
        prompts=tmp_path / "prompts.json", foreign=tmp_path / "foreign.json", faces=2,
        reader=str(tmp_path / "reader"),
    )  # fmt: skip
    evaluate.main(config)
    rows = json.loads((tmp_path / "out" / "metrics.json").read_text())
    known = [row for row in rows if row["success"] is not None]
    said = [row["text"] for row in rows]
    assert said == ["a hat"] * len(known) + ["a dog", "remove everything"]
    assert rows[-1]["warned"] == 1 and rows[-1]["clean"] is None  # what is refused has no picture
    for row in rows[:-1]:
        assert 0 <= row["clean"] <= 1 and -1 <= row["identity"] <= 1 and row["seconds"] > 0
    table = (tmp_path / "out" / "table.md").read_text()
    assert table.splitlines()[2].startswith(f"| gradient | {len(known)} |")


def test_impossible_numbers_of_faces() -> None:
    with pytest.raises(ValueError, match="faces is 0"):
        recipe("evaluate_words").Config(output_dir=Path("out"), faces=0)
