"""Cards say what is in the folder, as metadata that the Hub reads, and nothing else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from PIL import Image

from stylegan_hub import names
from stylegan_hub.artifacts import BaseModel, write_folder
from stylegan_hub.edits.base import Origin, Strength, load_edit
from stylegan_hub.edits.direction import Direction
from stylegan_hub.errors import ArtifactError, NotFoundError
from stylegan_hub.hub.cards import escape, evaluate_folder, write_card
from stylegan_hub.methods.method import caption

ROOT = Path(__file__).parents[1]
BASE = BaseModel("portraits", "0123456789abcdef", num_ws=3, w_dim=4, num_styles=10, resolution=128)
METRICS: dict[str, Any] = {
    "images": 128,
    "first_seed": 10_000_000,
    "truncation_psi": 0.7,
    "strength": 1.0,
    "target": {"hair_style": "afro"},
    "success": 0.8125,
    "success_images": 112,
    "collateral": 0.031,
    "flips": {"hat": 0.1, "age": 0.2, "skin": 0.0},
    "identity_similarity": 0.9,
    "clip_similarity_before": 0.2,
    "clip_similarity_after": 0.3,
    "step_cosine_mean": 1.0,
    "step_cosine_std": 0.0,
    "milliseconds_per_edit": 3.2,
}
HOSTILE = (
    'a [link](http://evil.example) <script>alert("x")</script> | cell\n---\nlicense: mine\n'
    "# heading `code` ![p](x.png) @somebody www.evil.example \N{RIGHT-TO-LEFT OVERRIDE}\x1b[31m"
    ": - {a: b} 'q' & *!tag &anchor %TAG ```\n```"
)


def make(
    folder: Path, prompt: str | None = "afro hair", metrics: object = METRICS, pictures: bool = True
) -> Path:
    training = {"method": "by hand", "steps": 300, "lr": 0.1, "notes": None, "layers": [1, 2]}
    edit = Direction(
        torch.ones(3, 4), "w_plus", BASE, Strength(1, -1, 3), Origin(prompt, "a face", training)
    )
    edit.save_pretrained(folder)
    if metrics is not None:
        (folder / "metrics.json").write_text(json.dumps(metrics))
    if pictures:
        (folder / "images").mkdir()
        for name in ("before-after.webp", "a sheet.png"):
            Image.new("RGB", (2, 2)).save(folder / "images" / name)
        (folder / "images" / "notes.txt").touch()
    return folder


def parts(card: Path) -> tuple[dict[str, Any], str]:
    _, front, text = card.read_text().split("---\n", 2)
    return yaml.safe_load(front), text


def test_metadata(tmp_path: Path) -> None:
    metadata, _ = parts(write_card(make(tmp_path / "afro-hair")))
    results = metadata.pop("model-index")[0]["results"][0]
    assert metadata == {
        "base_model": "stylegan-hub/portraits",
        "base_model_relation": "adapter",
        "library_name": "stylegan-hub",
        "pipeline_tag": "image-to-image",
        "license": "apache-2.0",
        "tags": ["stylegan2", "image-editing", "clip", "direction", "generator-0123456789abcdef"],
        "widget": [
            {"text": "afro hair", "output": {"url": "images/before-after.webp"}},
            {"text": "afro hair", "output": {"url": "images/a%20sheet.png"}},
        ],
    }
    assert results["dataset"]["name"] == "128 samples of portraits, seeds from 10000000"
    values = {metric["type"]: metric["value"] for metric in results["metrics"]}
    assert values == {"success": 0.8125, "collateral": 0.031}


def test_the_hubs_own_reader_takes_it(tmp_path: Path) -> None:
    card = ModelCard.load(write_card(make(tmp_path / "afro-hair")))
    assert card.data.library_name == "stylegan-hub"
    assert [result.metric_value for result in card.data.eval_results] == [0.8125, 0.031]


def test_text(tmp_path: Path) -> None:
    _, text = parts(write_card(make(tmp_path / "afro-hair")))
    for line in (
        "# afro hair",
        'It was found for the change from "a face" to "afro hair".',
        "Strength 1 is the default; the slider goes from -1 to 3, and 0 changes nothing.",
        'edit = hub.load_edit("afro-hair")  # or a folder, or "user/repo"',
        "| steps | 300 |",
        "| layers | 1, 2 |",
        "| Success: faces without the target that show it afterwards | 81.2 % of 112 |",
        "| Collateral: other attributes that changed too | 3.1 % |",
        "What else changes most: age 20.0 %, hat 10.0 %.",
    ):
        assert line in text.splitlines(), line
    assert "on 128 faces that no training has seen (seeds from 10,000,000, truncation 0.7" in text
    assert "Target: hair style afro." in text
    assert "notes" not in text
    for words in ("likeness", "ask real people", "fits only the generator"):
        assert words in text


@pytest.mark.parametrize("metrics", [None, {}, METRICS])
@pytest.mark.parametrize("pictures", [True, False])
def test_no_empty_heading_and_every_picture_is_there(
    tmp_path: Path, metrics: object, pictures: bool
) -> None:
    folder = make(tmp_path / "afro-hair", metrics=metrics, pictures=pictures)
    metadata, text = parts(write_card(folder))
    lines = [line for line in text.splitlines() if line]
    for line, following in zip(lines, [*lines[1:], "#"], strict=True):
        assert not (line.startswith("#") and following.startswith("#")), line
    assert ("## What was measured" in lines) == bool(metrics)
    assert ("It has not been measured" in text) == (not metrics)
    shown = [line.split("](")[1][:-1].replace("%20", " ") for line in lines if line[:2] == "!["]
    assert shown == (["images/before-after.webp", "images/a sheet.png"] if pictures else [])
    assert ("widget" in metadata) == pictures


def test_the_five_lines_run(
    tmp_path: Path, tiny_pipeline: Any, tiny_pipeline_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STYLEGAN_HUB_CARDS", str(tmp_path / "cards"))
    (tmp_path / "cards").mkdir()
    (tmp_path / "cards" / "portraits").symlink_to(tiny_pipeline_folder)
    vector = torch.zeros(tiny_pipeline.generator.num_ws, 16)
    edit = Direction(vector, "w_plus", tiny_pipeline.base_model)
    edit.base_model = BaseModel(**{**vars(edit.base_model), "id": "portraits"})
    _, text = parts(write_card(edit.save_pretrained(tmp_path / "cards" / "afro-hair")))
    code = text.split("```python\n")[1].split("```")[0]
    assert len([line for line in code.splitlines() if line]) == 5
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    assert (tmp_path / "edited.png").is_file()


def test_a_hostile_prompt_is_only_shown(tmp_path: Path) -> None:
    folder = make(tmp_path / "afro hair`'\"", HOSTILE)
    config = json.loads((folder / "config.json").read_text())
    config["kind"] = config["neutral"] = config["base_model"]["id"] = HOSTILE
    config["training"] = {HOSTILE: HOSTILE, "list": [HOSTILE], "map": {HOSTILE: HOSTILE}}
    config["base_model"]["fingerprint"] = "`](x) <b>"
    (folder / "config.json").write_text(json.dumps(config))
    target, flips = {HOSTILE: HOSTILE}, {HOSTILE: 0.5}
    odd = {HOSTILE: HOSTILE, "texts": {HOSTILE: {HOSTILE: HOSTILE, "success": 0.5}}}
    metrics = {**METRICS, "target": target, "flips": flips, **odd}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    card = write_card(folder)
    metadata, text = parts(card)
    assert metadata["license"] == "apache-2.0" and "base_model" not in metadata
    assert ModelCard.load(card).data.license == "apache-2.0"
    plain = text.split("```python")[0] + text.split("```", 2)[2]
    for markup in (
        "<script", "[link](", "http://", "www.evil", "![p]", "@somebody", "`code`", "```",
        "\x1b", "\N{RIGHT-TO-LEFT OVERRIDE}", "<b>",
    ):  # fmt: skip
        assert markup not in plain.replace("\\@", "(at)"), markup
    allowed = {
        "# ", "## Training", "## What was measured", "## Limits", "## Intended use and consent"
    }  # fmt: skip
    headings = [line for line in plain.splitlines() if line.startswith("#")]
    assert headings[0].startswith("# a \\[link\\]") and set(headings[1:]) <= allowed
    assert '"path/to/this/folder"' in text and '"path/to/its/pipeline"' in text
    for line in plain.splitlines():  # no cell was split
        if line.startswith("|"):
            assert line.replace("\\|", "").count("|") in (3, 4), line


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("afro hair", "afro hair"),
        ("a man's 50-year-old hat, red", "a man's 50-year-old hat, red"),
        ("a *b* _c_", r"a \*b\* \_c\_"),
        ("<b>&amp;", "&lt;b&gt;&amp;amp;"),
        ("two\r\n\tlines", "two lines"),
        ("\x00a\u202eb\ufeff", "ab"),
        ("caf\xe9 \N{GRINNING FACE}", "caf\xe9 \N{GRINNING FACE}"),
    ],
)
def test_escape(text: str, escaped: str) -> None:
    assert escape(text) == escaped


def test_numbers_that_could_not_be_measured(tmp_path: Path) -> None:
    metrics = {**METRICS, "success": None, "collateral": float("nan"), "flips": {}}
    metadata, text = parts(write_card(make(tmp_path / "a", metrics=metrics)))
    assert "model-index" not in metadata
    assert "show it afterwards | not measurable of 112 |" in text
    assert "nan" not in text


def test_a_failing_edit_says_so(tmp_path: Path) -> None:
    _, text = parts(write_card(make(tmp_path / "a", metrics={**METRICS, "success": 0.25})))
    assert "It fails more often than not: success is 25.0 %." in text


def test_a_direction_table_and_a_mapper(tmp_path: Path) -> None:
    base = {**vars(BASE)}
    tensors = {"relevance": torch.ones(2, 2)}
    texts = {"a hat": {"success": 0.5, "collateral": 0.01}, "a beard": {"success": 0.75}}
    config = {"kind": "direction_table", "space": "s", "base_model": base, "training": {"n": 100}}
    write_folder(tmp_path / "table", config, tensors)
    (tmp_path / "table" / "metrics.json").write_text(json.dumps({"images": 128, "texts": texts}))
    metadata, text = parts(write_card(tmp_path / "table"))
    assert "direction_table" in metadata["tags"]
    assert "# table" in text and 'hub.load_directions("table")' in text
    assert 'table.direction(pipe, target="a smiling face")' in text
    assert "| a hat | 0.5 | 0.01 |\n| a beard | 0.75 |  |" in text
    assert "slider goes" not in text
    assert "It adds up the effects of single channels." in text
    (tmp_path / "table" / "metrics.json").write_text(json.dumps({"images": 5000, "channels": 25}))
    _, text = parts(write_card(tmp_path / "table"))
    assert "5,000 pictures went into it." in text and "no training has seen" not in text
    write_folder(tmp_path / "cars", config | {"base_model": base | {"id": "me/cars"}}, tensors)
    _, text = parts(write_card(tmp_path / "cars"))
    assert (
        'table.direction(pipe, target=f"{pipe.neutral} in red")' in text
        and "face" not in (text.partition("```python")[2].partition("```")[0])
    )

    config = {"kind": "latent_mapper", "space": "w_plus", "base_model": base, "prompt": "mohawk"}
    write_folder(tmp_path / "mapper", config, tensors)
    _, text = parts(write_card(tmp_path / "mapper"))
    assert "# mohawk" in text and "A latent mapper (StyleCLIP, section 5)" in text
    assert "## Training" not in text


def test_a_kind_says_itself_what_its_cards_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names, "_KINDS", dict(names._KINDS))
    kind = names.Kind(
        "palette",
        summary="Colors that a generator likes.",
        limit="It knows no gray.",
        usage=lambda name, config: [f'paint("{name}", {config["colors"]})'],
        counted="{} colors were looked at.",
        task="text-to-image",
    )
    names.register_kind(kind)
    config = {"kind": "palette", "space": "s", "base_model": vars(BASE), "colors": 3}
    write_folder(tmp_path / "warm", config, {"colors": torch.ones(3)})
    (tmp_path / "warm" / "metrics.json").write_text(json.dumps({"images": 4000}))
    metadata, text = parts(write_card(tmp_path / "warm"))
    assert metadata["pipeline_tag"] == "text-to-image"
    assert 'paint("warm", 3)' in text and "4,000 colors were looked at." in text
    assert "Colors that a generator likes." in text and "- It knows no gray." in text
    assert (
        "slider" not in text and "has not been measured" not in text and "no training" not in text
    )


def test_writing_again_changes_nothing_and_keeps_the_license(tmp_path: Path) -> None:
    card = write_card(make(tmp_path / "afro-hair"))
    first = card.read_text()
    assert write_card(tmp_path / "afro-hair").read_text() == first
    card.write_text(first.replace("license: apache-2.0", "license: cc-by-4.0") + "\nby hand\n")
    assert write_card(tmp_path / "afro-hair").read_text() == first.replace(
        "license: apache-2.0", "license: cc-by-4.0"
    )
    card.write_text(first.replace("license: apache-2.0", "{: broken"))
    assert write_card(tmp_path / "afro-hair").read_text() == first


def test_sections_that_the_owner_added_are_kept(tmp_path: Path) -> None:
    card = write_card(make(tmp_path / "afro-hair"))
    first = card.read_text()
    added = "## Thanks\n\nTo Ann.\n\n### Her pictures\n\nBy mail.\n"
    card.write_text(first.replace("## Limits\n", f"{added}\n## Limits\n\n- Made up.\n"))
    again = write_card(card.parent).read_text()
    assert again == f"{first}\n{added}"
    assert write_card(card.parent).read_text() == again


def test_a_card_written_by_hand_is_not_replaced(
    tmp_path: Path, tiny_pipeline: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make(tmp_path / "afro-hair")
    vector = torch.zeros(tiny_pipeline.generator.num_ws, 16)
    Direction(vector, "w_plus", tiny_pipeline.base_model).save_pretrained(folder)
    by_hand = "---\nlibrary_name: stylegan-hub\nlicense: mit\n---\n\n# Mine\n\n## Limits\n\nMany.\n"
    (folder / "README.md").write_text(by_hand)
    with pytest.raises(ArtifactError, match="was written by hand") as raised:
        write_card(folder, "cc-by-4.0")
    assert "move it away" in str(raised.value.remedy)
    monkeypatch.setattr(tiny_pipeline, "synthesize", None)  # nothing is measured first
    with pytest.raises(ArtifactError, match="was written by hand"):
        evaluate_folder(folder, tiny_pipeline, None)
    bundled = shutil.copytree(ROOT / "cards" / "face-finder", tmp_path / "face-finder")
    with pytest.raises(ArtifactError, match="was written by hand"):
        write_card(bundled)
    assert (folder / "README.md").read_text() == by_hand
    assert (bundled / "README.md").read_bytes() == (
        ROOT / "cards" / "face-finder" / "README.md"
    ).read_bytes()


@pytest.mark.parametrize("target", ["cat", "cat.png", "cat.JPG"])
def test_an_essence_is_named_after_its_target_and_not_after_a_file(
    tmp_path: Path, target: str
) -> None:
    origin = Origin(training={"method": "essence", "target": target})
    Direction(torch.ones(3, 4), "w_plus", BASE, origin=origin).save_pretrained(tmp_path)
    _, text = parts(write_card(tmp_path))
    assert "# essence of cat" in text.splitlines()
    assert caption(load_edit(tmp_path)) == "essence of cat"


def test_a_target_that_only_looks_like_a_file_keeps_its_name() -> None:
    origin = Origin(training={"method": "essence", "target": "Dr. Otto v1.5"})
    edit = Direction(torch.ones(3, 4), "w_plus", BASE, origin=origin)
    assert caption(edit) == "essence of Dr. Otto v1.5"


def test_a_folder_that_cannot_be_described(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="There is no folder"):
        write_card(tmp_path / "nowhere")
    folder = make(tmp_path / "a")
    (folder / "metrics.json").write_text("[1]")
    with pytest.raises(ArtifactError, match=r"metrics\.json cannot be read: it holds a list"):
        write_card(folder)
    (folder / "metrics.json").write_text("{")
    with pytest.raises(ArtifactError, match=r"metrics\.json cannot be read"):
        write_card(folder)
    (folder / "config.json").unlink()
    with pytest.raises(ArtifactError, match=r"has no config\.json"):
        write_card(folder)
    assert not (folder / "README.md").exists()


def test_bundled_configs_name_no_folder_of_a_machine() -> None:
    for path in (ROOT / "cards").rglob("*.json"):
        config = json.loads(path.read_text())
        assert not (isinstance(config, dict) and config.get("_name_or_path")), path


def test_tables_hold_one_kind_of_row(tmp_path: Path) -> None:
    metrics = {"images": 8, "random": {"statements": 0.25, "attributes": {"hat": {"share": 0.5}}}}
    card = write_card(make(tmp_path, metrics=metrics)).read_text()
    assert "| | value |\n| --- | --- |\n| statements | 0.25 |\n\n" in card
    assert "share" not in card
