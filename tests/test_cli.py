"""The command writes what was requested, or says in one line why not."""

import contextlib
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import huggingface_hub
import pytest
import torch
from click.testing import Result
from outside import blend_registered, expected_vector
from PIL import Image
from pytest import MonkeyPatch
from typer.testing import CliRunner

from stylegan_hub.cli import main
from stylegan_hub.edits.base import Origin, load_edit
from stylegan_hub.edits.direction import Direction
from stylegan_hub.edits.stack import EditStack
from stylegan_hub.images import grid, to_pil
from stylegan_hub.methods.instant_training import BLOCK, make_instant_model
from stylegan_hub.methods.optimization import Settings
from stylegan_hub.models.parser import Parser
from stylegan_hub.models.stylegan2 import StyleGAN2Generator
from stylegan_hub.photos import comparison
from stylegan_hub.photos.comparison import Comparison
from stylegan_hub.photos.people import FaceReading
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.portraits.reader import AttributeReader
from stylegan_hub.text_to_face import TextToFace

pytestmark = pytest.mark.usefixtures("short_searches")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "new" / "out.png"


def test_help_is_quick() -> None:
    command = [sys.executable, "-c", "from stylegan_hub.cli import main; main()", "--help"]
    subprocess.run(command, check=True, capture_output=True)  # warm the file cache
    before = os.times().children_user
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    assert os.times().children_user - before < 1  # processor time: other work does not count
    names = (
        "edit",
        "methods",
        "invert",
        "batch",
        "sample",
        "demo",
        "list",
        "info",
        "publish",
        "evaluate",
        "doctor",
    )
    assert all(f"\n  {name} " in result.stdout for name in names)


@pytest.mark.parametrize(
    "name",
    [
        "edit",
        "methods",
        "invert",
        "batch",
        "sample",
        "demo",
        "list",
        "info",
        "publish",
        "evaluate",
        "doctor",
    ],
)
def test_each_help_has_an_example(name: str) -> None:
    result = run(name, "--help")
    assert result.exit_code == 0
    assert f"\n    stylegan-hub {name}" in result.stdout


def test_import_is_light() -> None:
    code = "import sys, stylegan_hub.cli; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"torch", "diffusers", "transformers", "gradio", "PIL", "numpy"} & set(loaded)


def test_version() -> None:
    from stylegan_hub import __version__

    result = run("--version")
    assert (result.exit_code, result.stdout) == (0, __version__ + "\n")


def test_edit_by_words(tiny_pipeline_folder: Path, output: Path) -> None:
    saved = output.parent / "edit"
    result = run(
        "edit", "--seed", 7, "--text", "a face with a hat", "--steps", 3, "--set", "space=s",
        "--pipeline", tiny_pipeline_folder, "--save-edit", saved, "--before-after", "-o", output,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert result.stdout == f"Wrote {output} and {saved}.\n"
    with Image.open(output) as picture:
        assert picture.size == (64, 32)
        before, after = picture.crop((0, 0, 32, 32)), picture.crop((32, 0, 64, 32))
    assert before.tobytes() != after.tobytes()
    edit = load_edit(saved)
    assert edit.space == "s" and edit.origin.prompt == "a face with a hat"

    again = output.with_name("again.png")
    common = ("--seed", 7, "--pipeline", tiny_pipeline_folder, "-o", again)
    assert run("edit", "--edit", saved, *common).exit_code == 0
    assert pixels(again) == after.tobytes()
    assert run("edit", "--edit", f"{saved}:0", *common).exit_code == 0
    assert pixels(again) == before.tobytes()
    assert run("edit", "--edit", f"{saved}:0.5", "--edit", f"{saved}:0.5", *common).exit_code == 0
    assert pixels(again) == after.tobytes()


@pytest.mark.usefixtures("bundled")
def test_words_are_searched_for_on_the_face_with_its_edits(
    tiny_pipeline: StyleEditPipeline, tiny_pipeline_folder: Path, output: Path
) -> None:
    """As `edit --help` says; and the picture is that of all displacements of the face."""
    saved = output.parent / "edit"
    command = (
        "edit", "--seed", 7, "--edit", "a-hat:0.5", "--text", "curly hair", "--steps", 3,
        "--method", "optimization", "--pipeline", tiny_pipeline_folder, "-o", output,
    )  # fmt: skip
    result = run(*command, "--save-edit", saved, "--set", "shared_steps=0", "--strength", 2)
    assert result.exit_code == 0, result.output
    pipe, hat = tiny_pipeline, load_edit("a-hat")
    face = pipe(seed=7, edits=[(hat, 0.5)]).latents
    settings = Settings(steps=3, shared_steps=0)
    expected = pipe.find("curly hair", face, method="optimization", settings=settings)
    found = load_edit(saved)
    # Rounding grows over the steps, because gradients are normalized to length 1.
    torch.testing.assert_close(found.vector, expected.vector, atol=1e-4, rtol=1e-3)
    for pairs in ([(hat, 0.5), (found, 2.0)], [(found, 2.0), (hat, 0.5)]):
        assert pipe(seed=7, edits=pairs).images[0].tobytes() == pixels(output)
    assert "edits are applied before the search" in run("edit", "-h").stdout


SEARCH = ("--steps", 2, "--method", "optimization", "--set", "shared_steps=0")


def found_one_by_one(command: tuple[object, ...], folder: Path, picture: Path) -> bytes:
    """The picture of an edit and two texts, each found in a run of its own."""
    before: tuple[object, ...] = ("--edit", "a-hat:0.5")
    for text in ("curly hair", "older"):
        saved = folder / text.replace(" ", "-")
        words = ("--text", text, "--save-edit", saved, *SEARCH)
        result = run(*command, *before, *words, "-o", picture)
        assert result.exit_code == 0, result.output
        before = (*before, "--edit", saved)
    return pixels(picture)


@pytest.mark.usefixtures("bundled")
def test_several_texts_and_edits_in_one_run(tiny_pipeline_folder: Path, output: Path) -> None:
    command = ("edit", "--seed", 7, "--pipeline", tiny_pipeline_folder)
    wanted = found_one_by_one(command, output.parent, output.with_name("wanted.png"))
    words = ("--edit", "a-hat:0.5", "--text", "curly hair", "--text", "older", *SEARCH)
    result = run(*command, *words, "-o", output)
    assert result.exit_code == 0, result.output
    assert pixels(output) == wanted
    refused = run(*command, *words, "-o", output, "--save-edit", output.parent / "both")
    assert refused.exit_code == 2 and "--save-edit saves one edit" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("film", "me.safetensors", "--seed", 7, "-o", "a.gif"), "Leave out --seed"),
        (("edit", "me.png", "--truncation", 1, "-o", "a.png"), "Leave out --seed, --label and"),
        (("film", "--photo", "me.png", "-o", "a.gif"), "No such option"),
        (("many", "--seeds", "0-9", "--refine", 5, "-o", "faces"), "--refine needs --photos"),
        (("many", "--photos", ".", "--truncation", 1, "-o", "x"), "--truncation needs --seeds"),
    ],
)
def test_an_option_that_would_change_nothing_is_refused(
    arguments: tuple[object, ...], said: str, tmp_path: Path, monkeypatch: MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.exit_code == 2 and said in " ".join(result.stderr.split()), result.output


def test_a_text_that_names_nothing_is_refused_before_any_search(
    tiny_pipeline_folder: Path, output: Path
) -> None:
    texts = ("--text", "curly hair", "--text", "remove everything")
    result = run("edit", *texts, *SEARCH, "--pipeline", tiny_pipeline_folder, "-o", output)
    assert result.exit_code == 1 and "names nothing that could change" in result.stderr
    assert "Searching" not in result.stderr and not output.exists()


def test_progress_is_the_searchs(tiny_pipeline_folder: Path, output: Path) -> None:
    """The search is longer than --steps: steps on random faces come first."""
    result = run(
        "edit", "--text", "curly hair", "--method", "optimization", "--steps", 3,
        "--pipeline", tiny_pipeline_folder, "-o", output,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    counts = [(int(done), int(total)) for done, total in re.findall(r"(\d+)/(\d+)", result.stderr)]
    assert counts[-1] == (7, 7) and all(total == 7 for _, total in counts)
    assert "similarity " in result.stderr


def test_a_method_by_name(tiny_pipeline_folder: Path, output: Path) -> None:
    saved = output.parent / "edit"
    common = ("edit", "--seed", 7, "--pipeline", tiny_pipeline_folder, "-o", output)
    words = ("--text", "a hat", "--neutral", "a beard", "--method", "gradient", "--every-face")
    command = (*common, *words, "--steps", 2, "--set", "channels=5", "--save-edit", saved)
    result = run(*command)
    assert result.exit_code == 0, result.output
    edit = load_edit(saved)
    assert edit.origin.training["method"] == "gradient" and edit.origin.neutral == "a beard"
    assert int((edit.vector != 0).sum()) == 5
    result = run(*common, *words, "--steps", 2, "--keep", "glasses", "--keep", "curly hair",
                 "--save-edit", saved)  # fmt: skip
    assert result.exit_code == 0, result.output
    assert load_edit(saved).origin.training["keep"] == ["glasses", "curly hair"]


def test_a_picture(tiny_pipeline_folder: Path, snapshot: Path, output: Path) -> None:
    saved = output.parent / "edit"
    result = run(
        "edit", "--target", snapshot, "--preset", "from_zero", "--steps", 2,
        "--save-edit", saved, "--pipeline", tiny_pipeline_folder, "-o", output,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    training = load_edit(saved).origin.training
    assert training["method"] == "essence" and training["target"] == "me"


def test_a_picture_without_a_search(
    tiny_pipeline_folder: Path, tmp_path: Path, snapshot: Path, output: Path
) -> None:
    pipe = StyleEditPipeline.from_pretrained(tiny_pipeline_folder)
    pipe.register_modules(instant=make_instant_model(pipe, samples=BLOCK))
    pipe.save_pretrained(tmp_path / "pipe")
    saved = output.parent / "edit"
    result = run(
        "edit", "--target", snapshot, "--method", "instant", "--save-edit", saved,
        "--pipeline", tmp_path / "pipe", "-o", output,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    found = load_edit(saved)
    assert found.origin.training["method"] == "instant"
    assert found.origin.training["target"] == "me" and found.length > 0


@pytest.fixture(scope="module")
def parsing_folder(
    tiny_pipeline: StyleEditPipeline, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A pipeline with a parser of random weights."""
    pipe = tiny_pipeline
    with torch.random.fork_rng():
        torch.manual_seed(0)
        parser = Parser(parts=("background", "hair", "skin"), width=4, input_size=32, stem_stride=1)
    parts = (pipe.clip, pipe.tokenizer, pipe.image_processor)
    folder = tmp_path_factory.mktemp("parsing") / "tiny"
    StyleEditPipeline(pipe.generator, *parts, parser=parser).save_pretrained(folder)
    return folder


def test_a_region(parsing_folder: Path, output: Path) -> None:
    """Some methods search in the region; the results of others are limited to it."""
    saved = output.parent / "edit"
    common = ("edit", "--seed", 7, "--pipeline", parsing_folder, "-o", output, "--steps", 2,
              "--region", "hair")  # fmt: skip
    for asked in (("--text", "curly hair"), ("--method", "local")):
        result = run(*common, *asked, "--save-edit", saved)
        assert result.exit_code == 0, result.output
        training = load_edit(saved).origin.training
        assert (training["method"], training["region"]) == ("local", "hair")

    whole = ("--text", "curly hair", "--method", "optimization", "--set", "shared_steps=0")
    result = run(*common, *whole, "--save-edit", saved)
    assert result.exit_code == 0, result.output
    pipe = StyleEditPipeline.from_pretrained(parsing_folder)
    shown = EditStack(start=pipe.sample(7)).added(load_edit(saved), region="hair").draw(pipe)
    assert to_pil(shown)[0].tobytes() == pixels(output)
    assert pipe(seed=7, edits=[(load_edit(saved), 1.0)]).images[0].tobytes() != pixels(output)


def test_a_method_from_outside(
    tiny_pipeline: StyleEditPipeline, tiny_pipeline_folder: Path, output: Path, snapshot: Path
) -> None:
    saved = output.parent / "edit"
    common = ("edit", "--seed", 7, "--pipeline", tiny_pipeline_folder, "-o", output)
    seeds = ("--before", 1, "--before", 2, "--after", 3, "--after", 4)
    expected = expected_vector(tiny_pipeline, [1, 2], [3, 4])
    with blend_registered():
        listed = run("methods", "--pipeline", tiny_pipeline_folder).stdout
        assert re.search(r"^blend +pairs, nothing +- +yes +default, far +Goes from", listed, re.M)
        result = run(*common, *seeds, "--every-face", "--save-edit", saved)
        assert result.exit_code == 0, result.output
        assert result.stdout.splitlines()[:2] == ["*  1 blend to a change", "   2 blend to back"]
        torch.testing.assert_close(load_edit(saved).vector, expected)
        result = run(*common, *seeds, "--choose", 2, "--preset", "far", "--save-edit", saved)
        assert result.exit_code == 0, result.output
        torch.testing.assert_close(load_edit(saved).vector, -2 * expected)
        assert run(*common, "--method", "blend").exit_code == 0
        for asked, message in (
            ((*seeds, "--choose", 3), "Got --choose 3, but the method found 2 edits"),
            (("--before", snapshot, "--after", snapshot), "Got pictures; expected seeds"),
        ):
            failed = run(*common, *asked)
            assert failed.exit_code == 1 and message in failed.stderr
    gone = run(*common, "--method", "blend")
    assert gone.exit_code == 1 and "Got the method 'blend'; there are" in gone.stderr


def test_methods(tiny_pipeline_folder: Path) -> None:
    result = run("methods", "--pipeline", tiny_pipeline_folder)
    assert result.exit_code == 0, result.output
    lines = {line.split()[0]: line for line in result.stdout.splitlines()}
    assert {"name", "optimization", "table", "gradient", "mapper", "local", "essence"} <= set(lines)
    assert re.search(r"words, nothing \(in a region\) +parser +no ", lines["local"])
    assert re.search(r"essence +picture +- +yes +default, ", lines["essence"])


def test_labels(
    tiny_pipeline: StyleEditPipeline, tiny_pipeline_folder: Path, tmp_path: Path, output: Path
) -> None:
    pipe = tiny_pipeline
    with torch.random.fork_rng():
        torch.manual_seed(0)
        generator = StyleGAN2Generator(
            z_dim=16, w_dim=16, c_dim=3, img_resolution=32, channels=[8, 8, 8, 8],
            num_mapping_layers=2,
        )  # fmt: skip
    labeled = StyleEditPipeline(generator, pipe.clip, pipe.tokenizer, pipe.image_processor)
    labeled.save_pretrained(tmp_path / "labeled")
    common = ("--pipeline", tmp_path / "labeled", "-o", output)
    drawn = []
    for label in ("0", "2", "0,0,1"):
        result = run("sample", "--seeds", 7, "--label", label, *common)
        assert result.exit_code == 0, result.output
        drawn.append(pixels(output))
    assert drawn[0] != drawn[1] == drawn[2]
    words = ("--text", "a hat", "--steps", 1, "--before-after")
    result = run("edit", "--seed", 7, "--label", 2, *words, *common)
    assert result.exit_code == 0, result.output
    with Image.open(output) as both:
        assert both.crop((0, 0, 32, 32)).tobytes() == drawn[1]
    for code, label, message in (
        (1, "3", "Got label 3; this generator has the classes 0 to 2"),
        (1, "0,1", "expected the index of a class"),
        (2, "cat", "Got the label 'cat'"),
    ):
        failed = run("sample", "--seeds", 7, "--label", label, *common)
        assert failed.exit_code == code and message in failed.stderr
    other = run("sample", "--label", 0, "--pipeline", tiny_pipeline_folder, "-o", output)
    assert other.exit_code == 1 and "trained without labels" in other.stderr


def test_as_a_module() -> None:
    command = [sys.executable, "-m", "stylegan_hub", "edit", "--help"]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    assert result.stdout.startswith("Usage: python -m stylegan_hub edit ")


def test_unfamiliar_word(tiny_pipeline_folder: Path, output: Path) -> None:
    result = run(
        "edit", "--text", "a zebra", "--steps", 1, "--pipeline", tiny_pipeline_folder, "-o", output
    )
    assert result.exit_code == 0
    assert "Warning: this CLIP has no token for 'zebra'" in result.stderr


def test_sample(tiny_pipeline_folder: Path, output: Path) -> None:
    common = ("--pipeline", tiny_pipeline_folder, "-o", output)
    result = run("sample", "--seeds", "0-3,7", "--columns", 3, *common)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"Wrote {output} with 5 faces.\n"
    with Image.open(output) as sheet:
        assert sheet.size == (96, 64)
    assert run("sample", "--seeds", "7", *common).exit_code == 0
    with Image.open(output) as sheet:
        assert sheet.size == (32, 32)


def test_sample_of_a_text(
    tiny_pipeline: StyleEditPipeline, tmp_path: Path, output: Path, monkeypatch: MonkeyPatch
) -> None:
    pipe = StyleEditPipeline(**tiny_pipeline.components)
    pipe.text_to_face = TextToFace.for_pipeline(pipe).half().float()
    monkeypatch.setenv("STYLEGAN_HUB_CARDS", str(tmp_path / "cards"))
    pipe.save_pretrained(tmp_path / "cards" / "tiny")
    pipe.text_to_face.save_pretrained(tmp_path / "cards" / "text-to-face")
    common = ("sample", "--text", "a hat", "--seeds", "3-4", "--pipeline", "tiny", "-o", output)
    result = run(*common)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"Wrote {output} with 2 faces.\n"
    faces = pipe.from_text("a hat", [3, 4]).images
    with Image.open(output) as sheet:
        assert sheet.tobytes() == grid(faces, columns=1).tobytes()
    refused = run(*common, "--label", "1")
    assert refused.exit_code == 2 and "--text cannot be used with --label" in refused.stderr


def test_an_edit_is_not_saved_among_other_things(
    tiny_pipeline_folder: Path, tmp_path: Path, output: Path, monkeypatch: MonkeyPatch
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "me.jpg").write_bytes(b"me")
    common = ("edit", "--text", "a hat", "--method", "gradient", "--seed", 7, "-o", output,
              "--pipeline", tiny_pipeline_folder, "--save-edit", photos)  # fmt: skip
    with monkeypatch.context() as patch:
        patch.setattr("stylegan_hub.cli.edit.open_studio", None)  # refused before loading
        refused = run(*common)
    assert refused.exit_code == 1 and "Choose another folder" in refused.stderr
    assert os.listdir(photos) == ["me.jpg"] and not output.exists()
    saved = run(*common, "--overwrite")
    assert saved.exit_code == 0, saved.output
    assert (photos / "me.jpg").read_bytes() == b"me" and load_edit(photos).length > 0
    assert run(*common).exit_code == 0  # now it is the folder of an edit
    alone = run("edit", "--edit", "afro-hair", "--overwrite", "-o", output)
    assert alone.exit_code == 2 and "--overwrite needs --save-edit" in alone.stderr


@pytest.mark.parametrize(
    ("code", "arguments", "message"),
    [
        (2, (), "Got nothing to do. Give --text, or --edit, or both"),
        (1, ("--text", ""), "Got no words"),
        (1, ("--text", "hat " * 10_000), "Got 10000 words"),
        (1, ("--text", "hat", "--seed", "-1"), "Got seed -1"),
        (1, ("--text", "hat", "--seed", str(2**63)), "Got seed 9223372036854775808"),
        (2, ("--text", "hat", "--seed", "x"), "should be a valid integer"),
        (2, ("--text", "hat", "--truncation", "nan"), "truncation"),
        (1, ("--text", "hat", "--strength", "inf"), "Got strength inf"),
        (1, ("--edit", "no such edit:1.0"), "Found nothing under 'no such edit'"),
        (2, ("--edit", "hat", "--save-edit", "folder"), "Give --text too"),
        (1, ("--text", "hat", "--pipeline", "no such one"), "Found nothing under 'no such one'"),
        (2, ("--colour", "red"), "No such option"),
        (2, ("--text", "hat", "--target", "x.png"), "Give only one of --text, --target"),
        (2, ("--before", "1"), "--before and --after belong together"),
        (2, ("--edit", "hat", "--region", "hair"), "Give --text too"),
        (2, ("--text", "hat", "--photo", "me.png"), "--photo needs a person to paste"),
        (2, ("--text", "hat", "--keep-own", "0.5"), "--keep-own needs a person to paste"),
        (2, ("--target", "x.png", "--keep", "hair"), "--keep needs --text"),
        (1, ("--target", "x.png"), "There is no file"),
        (1, ("--text", "hat", "--method", "magic"), "Got the method 'magic'; there are"),
        (1, ("--text", "hat", "--preset", "best"), "Got the preset 'best'"),
        (1, ("--text", "hat", "--method", "essence"), "Got a request of type Words"),
        (1, ("--text", "hat", "--method", "local"), "needs a pipeline with a parser"),
        (1, ("--text", "hat", "--region", "hair"), "no parser"),
        (1, ("--text", "hat", "--set", "colour=1"), "Unknown settings colour"),
        (2, ("--text", "hat", "--set", "lr"), "expected NAME=VALUE"),
        (2, ("--text", "hat", "--set", "lr=fast"), "A value of --set has the wrong type"),
        (1, ("--text", "hat", "--set", "views=-1"), "views -1"),
    ],
)
def test_bad_input(
    tiny_pipeline_folder: Path, output: Path, code: int, arguments: tuple[str, ...], message: str
) -> None:
    result = run("edit", "--pipeline", tiny_pipeline_folder, "--steps", 1, *arguments, "-o", output)
    assert message in result.stderr
    assert result.exit_code == code
    assert "Traceback" not in result.output
    assert not output.parent.exists()


@pytest.mark.parametrize("seeds", ["", "x", "3-", "5-2", "1,,2", "-1", "0-99999"])
def test_bad_seeds(output: Path, seeds: str) -> None:
    result = run("sample", "--seeds", seeds, "-o", output)
    assert result.exit_code == 2
    assert f"Got seeds {seeds!r}" in result.stderr


def test_output_is_checked_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for output, message, code in [
        (tmp_path / "out.bmp", "end the name in .gif, .jpeg", 2),
        (tmp_path / "file" / "out.png", "is a file, not a folder", 1),
        (Path("/proc/out.png"), "Cannot write in /proc", 1),
    ]:
        # The pipeline does not exist: the output is refused before the pipeline is looked for.
        result = run("edit", "--text", "hat", "--pipeline", "potraits", "-o", output)
        assert result.exit_code == code
        assert message in result.stderr
    result = run("edit", "--text", "hat", "--save-edit", tmp_path / "file", "-o", "out.png")
    assert result.exit_code == 1
    assert os.listdir(tmp_path) == ["file"]


def test_disk_that_refuses(
    tiny_pipeline_folder: Path, output: Path, monkeypatch: MonkeyPatch
) -> None:
    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    result = run("sample", "--seeds", "1", "--pipeline", tiny_pipeline_folder, "-o", output)
    assert result.exit_code == 1
    assert f"Error: Cannot write {output}: No space left on device. Free" in result.stderr
    assert list(output.parent.iterdir()) == []


@pytest.fixture
def replaced(monkeypatch: MonkeyPatch) -> list[list[str]]:
    """The programs that took the place of this process, which they do not; they exit with 3."""
    commands: list[list[str]] = []

    def note(program: str, command: list[str]) -> None:
        assert program == command[0] == sys.executable
        commands.append(command[1:])
        raise SystemExit(3)

    monkeypatch.setattr(os, "execv", note)
    return commands


def test_train_hands_everything_to_the_recipe(replaced: list[list[str]]) -> None:
    words = ["mapper", "--text", "a hat", "--help", "--output_dir", "runs/hat"]
    assert run("train", *words).exit_code == 3
    script = Path(__file__).parents[1] / "recipes" / "train.py"
    assert replaced == [[str(script), *words]] and script.is_file()


def test_demo_without_gradio(monkeypatch: MonkeyPatch) -> None:
    monkeypatch.setattr("stylegan_hub.cli.page.find_spec", lambda name: None)
    result = run("demo")
    assert result.exit_code == 1 and 'pip install "stylegan-hub[demo]"' in result.stderr


def test_demo_runs_the_script_of_the_clone(replaced: list[list[str]]) -> None:
    assert run("demo", "--pipeline", "cars", "--port", 8000).exit_code == 3
    script = Path(__file__).parents[1] / "app.py"
    words = ["--pipeline", "cars", "--device", "auto", "--port", "8000"]
    assert replaced == [[str(script), *words]] and script.is_file()


def test_a_signal_ends_what_a_command_started() -> None:
    begun = subprocess.Popen(
        [sys.executable, "-m", "stylegan_hub", "train", "mapper", "--help"],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        stdout=subprocess.PIPE,
        text=True,
    )
    command = Path(f"/proc/{begun.pid}/cmdline")
    if not command.exists():
        begun.kill()
        pytest.skip("This system does not list processes.")
    own = set()
    while begun.poll() is None:
        with contextlib.suppress(OSError, IndexError):
            own.add(command.read_bytes().split(b"\0")[1])
        time.sleep(0.01)
    said, _ = begun.communicate()
    assert "--output_dir" in said
    # The recipe has the process that was started, so it gets the signals that are sent to that.
    assert any(name.endswith(b"recipes/train.py") for name in own)


def test_help_of_the_script() -> None:
    script = Path(__file__).parents[1] / "app.py"
    result = subprocess.run(
        [sys.executable, str(script), "--help"], capture_output=True, text=True, check=True
    )
    assert all(option in result.stdout for option in ("--pipeline", "--host", "--port"))


@pytest.fixture
def bundled(tmp_path: Path, tiny_pipeline: StyleEditPipeline, monkeypatch: MonkeyPatch) -> Path:
    """Two bundled edits of the tiny pipeline, one of them measured; returns their folder."""
    cards = tmp_path / "cards"
    for name, prompt in (("a-hat", "a hat"), ("afro-hair", "afro hair\x1b[31m\nred")):
        vector = torch.ones(tiny_pipeline.generator.num_styles)
        edit = Direction(vector, "s", tiny_pipeline.base_model, origin=Origin(prompt))
        edit.save_pretrained(cards / name)
    metrics = {"images": 8, "success": 0.75, "collateral": 0.0123, "flips": {"hat": 0.5}}
    (cards / "a-hat" / "metrics.json").write_text(json.dumps(metrics))
    monkeypatch.setenv("STYLEGAN_HUB_CARDS", str(cards))
    return cards


@pytest.mark.usefixtures("bundled")
def test_list() -> None:
    result = run("list", "--no-hub")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        f"{'name':9}  {'kind':9}  {'generator':16}  success  collateral  made for",
        f"{'a-hat':9}  direction  {fingerprint()}  0.75     0.012       a hat",
        f"{'afro-hair':9}  direction  {fingerprint()}  -        -           afro hair [31m red",
    ]
    found = run("list", "--no-hub", "--search", "afro").stdout
    assert "a-hat" not in found and "afro-hair" in found
    assert len(run("list", "--no-hub", "--kind", "wish").stdout.splitlines()) == 1
    assert run("list", "--limit", "0").exit_code == 2


def test_list_without_a_network(bundled: Path, monkeypatch: MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    result = run("list")
    assert result.exit_code == 0 and "afro-hair" in result.stdout
    assert result.stderr.startswith("Warning: The Hub could not be reached, so only bundled edits")


def test_info(bundled: Path, tmp_path: Path) -> None:
    result = run("info", "a-hat")
    assert result.exit_code == 0
    for line in (
        "from:                    bundled",
        "made for:                a hat",
        "strength:                1 (slider from -2 to 2)",
        "flips:                   hat 0.5",
    ):
        assert line in result.stdout.splitlines()
    assert "from:                    folder" in run("info", bundled / "a-hat").stdout
    (bundled / "a-hat" / "model.safetensors").write_bytes(b"short")
    for name, message in (("a-hat", "is damaged"), (tmp_path / "x y", "Found nothing under")):
        result = run("info", name)
        assert result.exit_code == 1 and result.stdout == ""
        assert result.stderr.startswith("Error: ") and message in result.stderr


def test_evaluate(bundled: Path, tiny_pipeline_folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    AttributeReader(
        resolution=32, channels=(8, 8, 8), blocks=(1, 1, 1), last_channels=8, hidden_size=8
    ).save_pretrained(tmp_path / "reader")
    common = ("--pipeline", tiny_pipeline_folder, "--reader", tmp_path / "reader")
    folder = bundled / "afro-hair"
    result = run("evaluate", folder, "--target", "hat=yes", "--samples", 4, *common)
    assert result.exit_code == 0, result.output
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["images"] == 4 and metrics["target"] == {"hat": "yes"}
    assert result.stdout.startswith(f"{folder}: success ")
    card = (folder / "README.md").read_text()
    assert "![Upper row: before." in card and "Target: hat yes." in card
    # Everything is measured as before unless an option says otherwise.
    assert run("evaluate", folder, *common).exit_code == 0
    again = json.loads((folder / "metrics.json").read_text())
    del metrics["milliseconds_per_edit"], again["milliseconds_per_edit"]
    assert again == metrics

    for code, arguments, message in (
        (2, (folder, "--target", "hat"), "Got the target 'hat'"),
        (2, (folder, "--samples", "1"), "samples"),
        (2, (), "Missing argument"),
        (1, (tmp_path / "nowhere",), "There is no folder"),
        (1, (folder, "--pipeline", "no such one"), "Found nothing under"),
    ):
        failed = run("evaluate", *common, *arguments)
        assert (failed.exit_code, failed.stdout) == (code, ""), failed.output
        assert message in failed.stderr and "Traceback" not in failed.stderr


def test_stacked_edits(bundled: Path, tiny_pipeline_folder: Path, output: Path) -> None:
    """Edits with strengths and words on one face are the sum of all."""
    common = ("edit", "--seed", 7, "--pipeline", tiny_pipeline_folder, "-o", output)
    assert run(*common, "--edit", "a-hat:0.25", "--edit", "afro-hair:0.75").exit_code == 0
    both = pixels(output)
    assert run(*common, "--edit", "a-hat:1").exit_code == 0
    assert pixels(output) == both
    words = ("--text", "a hat", "--steps", 4, "--strength", 3, "--set", "space=s")
    assert run(*common, "--edit", "a-hat:0.25", "--edit", "afro-hair:0.75", *words).exit_code == 0
    assert pixels(output) != both


def fingerprint() -> str:
    return load_edit("a-hat").base_model.fingerprint


def pixels(path: Path) -> bytes:
    with Image.open(path) as picture:
        return picture.tobytes()


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    """A photo with content that three points can frame."""
    picture = Image.new("RGB", (120, 90), (60, 120, 90))
    picture.paste(Image.linear_gradient("L").resize((50, 50)).rotate(15), (40, 20))
    picture.save(tmp_path / "me.png")
    return tmp_path / "me.png"


POINTS = ("--points", "52,40 70,42 60,58")


@pytest.mark.usefixtures("bundled")
@pytest.mark.filterwarnings("ignore:This pipeline has no encoder")
def test_a_photo_is_inverted_edited_and_pasted_back(
    snapshot: Path, tiny_pipeline_folder: Path, tmp_path: Path
) -> None:
    model, saved = ("--pipeline", tiny_pipeline_folder), tmp_path / "me.safetensors"
    preview = tmp_path / "look.webp"
    result = run("invert", snapshot, "--refine", 2, *POINTS, "--preview", preview, *model)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith("The face in me.png has the corners (")
    assert lines[1].startswith("Likeness of the render: PSNR ")
    assert lines[2] == f"Wrote {saved} and {preview}."
    assert "Warning: This pipeline has no encoder" in result.stderr
    with Image.open(preview) as look:
        assert look.size == (96, 32)  # aligned, rendered, and what stays as in the photo

    result = run("edit", saved, "--edit", "a-hat:1", *model)
    assert result.exit_code == 0, result.output
    edited = tmp_path / "me-edited.png"
    assert result.stdout == f"Wrote {edited}.\n"
    with Image.open(edited) as after, Image.open(snapshot) as before:
        assert after.size == before.size and after.getpixel((0, 0)) == before.getpixel((0, 0))
    assert pixels(edited) != pixels(snapshot)
    assert run("edit", saved, "--edit", "a-hat:0", *model, "-o", edited).exit_code == 0
    assert pixels(edited) == pixels(snapshot)
    wanted = found_one_by_one(("edit", saved, *model), tmp_path, tmp_path / "wanted.png")
    words = ("--edit", "a-hat:0.5", "--text", "curly hair", "--text", "older", *SEARCH)
    result = run("edit", saved, *words, *model, "-o", edited)
    assert result.exit_code == 0, result.output
    assert pixels(edited) == wanted != pixels(snapshot)  # all three are pasted into the photo
    face = tmp_path / "face.png"
    common = ("edit", saved, "--edit", "a-hat:1", "-o", face, *model)
    assert run(*common, "--paste", "none").exit_code == 0
    with Image.open(face) as alone:
        assert alone.size == (32, 32)
    assert run(*common, "--paste", "face", "--before-after").exit_code == 0
    with Image.open(face) as both:
        assert both.size == (240, 90)

    elsewhere = snapshot.rename(tmp_path / "other.png")
    missing = run(*common)
    assert missing.exit_code == 1 and "Give its path with --photo" in missing.stderr
    assert run(*common, "--photo", elsewhere).exit_code == 0
    with Image.open(elsewhere) as picture:
        picture.resize((60, 45)).save(elsewhere)
    smaller = run(*common, "--photo", elsewhere)
    assert smaller.exit_code == 1 and "Give the same photo again" in smaller.stderr


@pytest.mark.usefixtures("bundled")
@pytest.mark.filterwarnings("ignore:This pipeline has no encoder")
def test_readers_that_did_not_search_say_what_changed(
    snapshot: Path, tiny_pipeline_folder: Path, tmp_path: Path, monkeypatch: MonkeyPatch
) -> None:
    compared: list[tuple[Image.Image, Image.Image]] = []

    def compare(first: Image.Image, second: Image.Image) -> Comparison:
        compared.append((first, second))
        serious = FaceReading({"neutral": 0.8, "happy": 0.2}, 41.0)
        return Comparison(serious, FaceReading({"neutral": 0.1, "happy": 0.9}, 39.0), 0.43)

    monkeypatch.setattr(comparison, "compare", compare)
    model, face = ("--pipeline", tiny_pipeline_folder), tmp_path / "face.png"
    told = run("invert", snapshot, "--refine", 1, *POINTS, *model).stdout
    assert "neutral (0.80) in the photo, happy (0.90) in the render" in told
    person = ("edit", tmp_path / "me.safetensors", "-o", face, "--paste", "none", *model)
    told = run(*person, "--edit", "a-hat:1", "--edit", "a-hat:0.5").stdout
    assert "neutral (0.80) before, happy (0.90) after" in told and "0.43" in told
    assert pixels(face) == compared[-1][1].tobytes() != compared[-1][0].tobytes()


@pytest.mark.usefixtures("bundled")
@pytest.mark.filterwarnings("ignore:This pipeline has no encoder")
def test_a_tuned_person_is_drawn_by_the_tuned_generator(
    snapshot: Path, tiny_pipeline_folder: Path, tmp_path: Path
) -> None:
    model, drawn = ("--pipeline", tiny_pipeline_folder), []
    for name, tune in (("plain", 0), ("tuned", 2)):
        saved, face = tmp_path / f"{name}.safetensors", tmp_path / f"{name}.png"
        options = ("--refine", 1, "--tune", tune, *POINTS, "-o", saved)
        assert run("invert", snapshot, *options, *model).exit_code == 0
        command = ("edit", saved, "--edit", "a-hat:0", "--paste", "none", "-o", face)
        assert run(*command, *model).exit_code == 0
        drawn.append(pixels(face))
    assert drawn[0] != drawn[1]


def test_inverting_that_cannot_be_done(
    snapshot: Path, tiny_pipeline_folder: Path, tmp_path: Path
) -> None:
    for code, arguments, message in (
        (1, (), "No face was found in me.png (120 x 90)"),
        (2, ("--points", "1,2 3,4"), "Got the points '1,2 3,4'; expected both eyes"),
        (1, ("--points", "1,2 3,4 5,6"), "the three lie on a line"),
        (1, ("--aligned",), "an aligned picture is a square"),
        (2, ("--aligned", "--face", 2), "Give only one of --face, --points and --aligned"),
        (2, ("-o", tmp_path / "me.pt"), "the name must end in .safetensors"),
        (1, POINTS, "This pipeline has no encoder"),
    ):
        result = run("invert", snapshot, *arguments, "--pipeline", tiny_pipeline_folder)
        assert (result.exit_code, result.stdout) == (code, ""), result.output
        assert message in result.stderr and "Traceback" not in result.stderr
    assert sorted(os.listdir(tmp_path)) == ["me.png"]
    result = run("invert", tmp_path / "none.png", "--pipeline", tiny_pipeline_folder)
    assert result.exit_code == 1 and "There is no file" in result.stderr


def test_editing_a_person_that_cannot_be_done(snapshot: Path, tmp_path: Path) -> None:
    for code, arguments, message in (
        (1, (snapshot,), "stylegan-hub invert me.png"),
        (1, (tmp_path / "me.safetensors",), "There is no file"),
        (2, (), "Missing option '--output'"),
    ):
        result = run("edit", *arguments, "--edit", "a-hat:1")
        assert (result.exit_code, result.stdout) == (code, ""), result.output
        assert message in result.stderr


@pytest.mark.usefixtures("bundled")
@pytest.mark.filterwarnings("ignore:This pipeline has no encoder")
def test_a_batch(snapshot: Path, tiny_pipeline_folder: Path, tmp_path: Path) -> None:
    photos, output = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    Image.open(snapshot).crop((30, 10, 110, 90)).save(photos / "square.png")
    (photos / "broken.jpg").write_bytes(b"?")
    command = ("batch", photos, "-o", output, "--refine", 1, "--edit", "a-hat:1")
    (photos / "._square.png").write_bytes(b"notes")
    command = (*command, "--aligned")
    result = run(*command, "--pipeline", tiny_pipeline_folder)
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "Inverted 1 of 2 photos, 0 of them in an earlier run.",
        f"Wrote {output / 'sheet.png'}.",
        "Left out 1 other entry.",
    ]
    assert "Left out: ._square.png: " in result.stderr
    assert "Failed: broken.jpg: " in result.stderr and "cannot be read as" in result.stderr
    (photos / "broken.jpg").unlink()
    again = run(*command, "--pipeline", tiny_pipeline_folder)
    assert (
        again.exit_code == 0
        and "Inverted 1 of 1 photo, 1 of them in an earlier run." in again.stdout
    )
    assert (output / "edited" / "square-png.png").is_file()
    assert run(*command, "--paste", "none").exit_code == 2


def test_doctor_says_what_there_is(monkeypatch: MonkeyPatch) -> None:
    monkeypatch.setenv("STYLEGAN_HUB_KERNELS", "off")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    result = run("doctor")
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert any(line.startswith("versions:") and torch.__version__ in line for line in lines)
    place = next(i for i, line in enumerate(lines) if line.startswith("kernel styled_conv.cpp:"))
    assert "PyTorch's operations replace it" in lines[place]
    assert "STYLEGAN_HUB_KERNELS=off" in lines[place + 1]
    assert any(re.match(r"kernel styled_conv\.cu: +off: it has not", line) for line in lines)
    assert '    pip install "stylegan-hub[photos]"' in lines
    assert any(line.startswith("bundled:") and "portraits" in line for line in lines)
