"""Exported pipelines in a browser: the same numbers as in Python, and the page without a server."""

from __future__ import annotations

import io
import json
import math
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from browser_site import edits_of_all_kinds, need_tfjs, write_layout
from PIL import Image
from programs import run_program
from test_demo import browser, wait_for  # noqa: F401

from stylegan_hub.browser import tfjs
from stylegan_hub.browser.check import LIBRARY, check, chromium
from stylegan_hub.browser.export import export_web, sizes_text, synthesis_files
from stylegan_hub.browser.served import ISOLATED, served
from stylegan_hub.browser.static_page import StaticPage, write_static_page
from stylegan_hub.domain import words_of
from stylegan_hub.edits.base import Edit
from stylegan_hub.errors import ArtifactError, MethodError, MismatchError, NotFoundError
from stylegan_hub.hub.space import space_sdk
from stylegan_hub.methods.fit import PoorFitWarning, uncalibrated
from stylegan_hub.methods.instant_training import BLOCK, make_instant_model
from stylegan_hub.methods.method import Words
from stylegan_hub.methods.word_bank import known_entries
from stylegan_hub.methods.wording import parts, reading
from stylegan_hub.models.instant import InstantModel
from stylegan_hub.models.stylegan2 import StyleGAN2Generator
from stylegan_hub.pipeline import StyleEditPipeline

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SECONDS = 120
# Chromium emulates a graphics card for WebGL and WebGPU on the processor.
SOFTWARE_GPU = [
    "--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
    "--enable-unsafe-webgpu", "--enable-features=Vulkan", "--use-webgpu-adapter=swiftshader",
]  # fmt: skip
LOSE = {
    "webgl": "tf.backend().gpgpu.gl.getExtension('WEBGL_lose_context').loseContext()",
    "webgpu": "tf.backend().device.destroy()",
}
SAID = [
    "a smiling face", "without glasses", "no hat", "remove the beard", "take off his glasses",
    "older", "make her look younger", "less angry", "less old", "give him a hat", "add glasses",
    "make the hair purple", "make him happy", "make her smile", "put on a hat",
    "Milo without a beard",
    "please add freckles to her", "a face with no hat", "fewer freckles.", "Grow a beard!",
    "“no hat”", "no hat 🎩", "remove the 🎩", "shave him", "neither hat nor glasses",
    "don\u2019t smile",
    "make the hair a bit longer", "longer hair", "with a hat but no glasses", "less of a smile",
    "remove the hat and the glasses", "replace the hat with glasses", "not without glasses",
    "turn his hair into an afro", "add a hat, but keep the glasses", "なし帽子", "12345",
    "more beard", "no hat and glasses", "no hat, glasses and beard", "no hat and a beard",
    "neither a hat nor glasses nor a beard", "not smiling or angry", "a man without hat or beard",
    "hat off, beard on", "hat and glasses off", "with the hat off", "glasses: none", "hair: red",
    "hat: none, glasses: none", "lose weight", "put on some weight", "older man", "zero freckles",
    "he isn\u2019t wearing a hat and glasses", "no glasses please, but a beard", "beard: yes",
]  # fmt: skip
NAMELESS = [
    "remove everything", "everything off", "take it all off", "delete her", "no face", "undo", "no",
    "add everything", "smiling, and remove everything",
]  # fmt: skip
SEVERAL = [
    "older, smiling, with glasses", "red and curly hair", "without a hat or glasses",
    "a hat; a beard", "without hat, glasses or a beard", "Shave him!",
    "smiling, older, keep the hat",
    "a face with a hat", "dark skin & green eyes", ", ,", "no hat and glasses", "hat off, beard on",
    "no hat, glasses, and smiling", "beard, hat and glasses off",
]  # fmt: skip


@pytest.fixture(scope="module")
def pipe(inverting_pipeline: StyleEditPipeline) -> StyleEditPipeline:
    """A tiny pipeline with an encoder and an instant model, and the weights as they are stored."""
    generator = StyleGAN2Generator.from_config(inverting_pipeline.generator.config)
    state = inverting_pipeline.generator.state_dict()
    generator.load_state_dict({name: tensor.half().float() for name, tensor in state.items()})
    clip = (inverting_pipeline.clip, inverting_pipeline.tokenizer)
    bare = StyleEditPipeline(generator, *clip, inverting_pipeline.image_processor)
    made = make_instant_model(bare, BLOCK)
    words = {word for entry in known_entries(bare) for word in words_of(entry)}
    fit = replace(uncalibrated(bare, made.seen), words=("glasses", "hat", *sorted(words)))
    instant = InstantModel(**{**vars(made.sizes), "fit": asdict(fit)})
    instant.load_state_dict(made.state_dict())
    return StyleEditPipeline(
        generator,
        *clip,
        inverting_pipeline.image_processor,
        encoder=inverting_pipeline.encoder,
        instant=instant.eval(),
    )


@pytest.fixture(scope="module")
def edits(pipe: StyleEditPipeline) -> dict[str, Edit]:
    return edits_of_all_kinds(pipe)


@pytest.fixture(scope="module")
def site(
    pipe: StyleEditPipeline, edits: dict[str, Edit], tmp_path_factory: pytest.TempPathFactory
) -> StaticPage:
    need_tfjs()
    folder = tmp_path_factory.mktemp("site") / "below" / "a path"
    return write_static_page(pipe, folder, title="Tiny: # faces", edits=edits)


def test_a_static_space_replaces_itself_and_nothing_else(
    site: StaticPage, pipe: StyleEditPipeline, tmp_path: Path
) -> None:
    assert space_sdk(site.folder) == "static"
    page = write_static_page(pipe, tmp_path / "page", edits=edits_of_all_kinds(pipe))
    edits = set((page.folder / "pipeline").rglob("*"))
    write_static_page(pipe, page.folder)
    assert set((page.folder / "pipeline").rglob("*")) < edits  # the first ones are gone
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "index.html").write_text("mine")
    with pytest.raises(ArtifactError, match="holds something else"):
        write_static_page(pipe, tmp_path / "full")
    assert (tmp_path / "full" / "index.html").read_text() == "mine"


@pytest.mark.slow
def test_the_shell_writes_a_static_space_that_renders(
    browser: Browser,  # noqa: F811
    tmp_path: Path,
) -> None:
    need_tfjs()
    told = run_program(
        [sys.executable, "-m", "stylegan_hub", "space", "page", "--static", "--edit", "glasses",
         "--output", str(tmp_path / "page")]
    )  # fmt: skip
    assert "with 1 edits" in told and "loaded for the first picture" in told
    with served({"": tmp_path / "page"}) as address:
        page = browser.new_page()
        page.goto(address)
        page.get_by_role("button", name="glasses").click(timeout=SECONDS * 1000)
        page.get_by_role("slider").first.wait_for(timeout=SECONDS * 1000)
        page.close()


@pytest.fixture(scope="module")
def url(site: StaticPage) -> Iterator[str]:
    with served({"": site.folder.parent.parent}) as address:
        yield f"{address}below/a%20path/"


@pytest.fixture(scope="module")
def blank(browser: Browser, url: str) -> Iterator[Page]:  # noqa: F811
    """A page of the site that does nothing by itself, with the engine as `engine`."""
    page = browser.new_page()
    page.set_default_timeout(SECONDS * 1000)
    page.goto(f"{url}README.md")
    page.evaluate(
        """async () => {
          const { openEngine } = await import('./library/client.js');
          const here = name => new URL(`./${name}/`, location.href).href;
          window.options = { pipeline: here('pipeline'), library: here('tfjs') };
          window.notices = [];
          window.engine = await openEngine(options, text => notices.push(text));
        }"""
    )
    yield page
    page.close()


def levels(page: Page, expression: str) -> np.ndarray[Any, Any]:
    """A picture of the engine as numbers `[h, w, 3]`."""
    got = page.evaluate(
        f"async () => {{ const {{ data, width, height }} = await {expression};"
        "return { data: [...data], width, height }; }"
    )
    return np.array(got["data"]).reshape(got["height"], got["width"], 4)[:, :, :3]


def difference(page: Page, expression: str, picture: Image.Image) -> int:
    return int(abs(levels(page, expression) - np.asarray(picture, dtype=int)).max())


# The export


def test_what_an_export_holds(
    pipe: StyleEditPipeline, edits: dict[str, Edit], tmp_path: Path
) -> None:
    exported = export_web(pipe, tmp_path / "web", edits=edits)
    layout = json.loads((tmp_path / "web" / "layout.json").read_bytes())
    assert {"text", "vision", "instant", "encoder"} == set(layout["parts"])
    assert [edit["name"] for edit in layout["edits"]] == [*edits]
    for entry in (layout["generator"], *layout["parts"].values(), *layout["edits"]):
        assert (tmp_path / "web" / entry["file"]).stat().st_size == entry["bytes"]
    assert exported.rounding == 0 and "MB  generator.safetensors" in sizes_text(exported)
    moving = synthesis_files(pipe)
    assert len(moving["generator.safetensors"]) < exported.sizes["generator.safetensors"]


def test_what_cannot_be_exported(pipe: StyleEditPipeline, tmp_path: Path) -> None:
    generator = StyleGAN2Generator(
        z_dim=16, w_dim=16, img_resolution=32, channels=[8] * 4, architecture="orig"
    )
    other = StyleEditPipeline(generator, pipe.clip, pipe.tokenizer, pipe.image_processor)
    with pytest.raises(MismatchError, match=r"architecture 'orig'.*full app"):
        export_web(other, tmp_path / "web")

    class Foreign(Edit):
        kind = "foreign"

    with pytest.raises(ArtifactError, match="kind 'foreign'"):
        export_web(pipe, tmp_path / "web", edits={"x": Foreign("s", pipe.base_model)})
    edit = edits_of_all_kinds(other)["instant"]
    with pytest.raises(MismatchError, match=pipe.base_model.fingerprint):
        export_web(pipe, tmp_path / "web", edits={"x": edit})
    assert not (tmp_path / "web").exists()
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "generator.safetensors").write_bytes(b"mine")
    with pytest.raises(ArtifactError, match="holds something else"):
        export_web(pipe, mine)
    assert (mine / "generator.safetensors").read_bytes() == b"mine"


def test_tfjs_is_what_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need_tfjs()
    kept = tfjs.folder()
    monkeypatch.setattr(tfjs, "folder", lambda: tmp_path)
    shutil.copytree(kept, tmp_path, dirs_exist_ok=True)
    (tmp_path / "tf-core.es2017.min.js").write_text("alert('another one')")
    with pytest.raises(NotFoundError, match="which needs npm"):
        tfjs.library(fetch=False)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(NotFoundError, match="npm is not installed"):
        tfjs.library()


@pytest.mark.browser
def test_the_check_in_chromium(
    browser: Browser,  # noqa: F811
    site: StaticPage,
    edits: dict[str, Edit],
    tmp_path: Path,
) -> None:
    result = check(site.folder / "pipeline")
    assert result.passes and result.backend == "wasm"
    names = [one.name for one in result.compared]
    assert len(names) == 8 + len(edits) and {"picture", "found", "inverted", "edit mapper-s"} <= {
        *names
    }
    wrong = shutil.copytree(site.folder / "pipeline", tmp_path / "wrong")
    write_layout(wrong, '"format_version":3', '"format_version":4')
    with pytest.raises(ArtifactError, match="format_version 4; this page reads 3"):
        check(wrong)


# The library


@pytest.mark.browser
def test_ten_edits(blank: Page, pipe: StyleEditPipeline, edits: dict[str, Edit]) -> None:
    seed = 2**40 + 3
    for name, edit in edits.items():
        wanted = pipe(seed=seed, edits=[(edit, -0.7)]).images[0]
        asked = f"engine.picture({{ seed: '{seed}' }}, [{{ edit: '{name}', strength: -0.7 }}])"
        assert difference(blank, asked, wanted) <= 2, name
    stack = [(edits[name], 0.3) for name in ("mapper", "channels-1", "instant")]
    applied = "['mapper', 'channels-1', 'instant'].map(edit => ({ edit, strength: 0.3 }))"
    asked = f"engine.picture({{ seed: 5, psi: 1 }}, {applied})"
    wanted = pipe(seed=5, edits=stack, truncation_psi=1).images[0]
    assert difference(blank, asked, wanted) <= 2


@pytest.mark.browser
@pytest.mark.parametrize(
    "taps",
    [[1, 2, 4, 1], [[1, 3, 2, 1], [2, 4, 2, 1], [3, 1, 3, 1], [1, 1, 1, 1]]],
    ids=["separable, not symmetric", "not separable"],
)
def test_filters(blank: Page, pipe: StyleEditPipeline, site: StaticPage, taps: Any) -> None:
    generator = StyleGAN2Generator(
        z_dim=16, w_dim=16, img_resolution=32, channels=[8] * 4, resample_filter=taps
    )
    other = StyleEditPipeline(generator, pipe.clip, pipe.tokenizer, pipe.image_processor)
    folder = site.folder / f"wrong-filter-{len(json.dumps(taps))}"
    folder.mkdir(exist_ok=True)
    for name, data in synthesis_files(other).items():
        (folder / name).write_bytes(data)
    got = blank.evaluate(
        """async name => {
          const { openEngine } = await import('./library/client.js');
          const pipeline = new URL(`./${name}/`, location.href).href;
          const engine = await openEngine({ ...options, pipeline });
          engine.close();
          return engine.about.difference;
        }""",
        folder.name,
    )
    assert got <= 1


@pytest.mark.browser
@pytest.mark.parametrize(
    ("headers", "is_threaded"),
    [
        ({}, False),
        (ISOLATED, True),
        # tf.js makes its workers from blobs, and would wait for them forever.
        ({**ISOLATED, "Content-Security-Policy": "worker-src 'self'"}, False),
    ],
    ids=["not isolated", "isolated", "isolated, but workers are forbidden"],
)
def test_threads(
    browser: Browser,  # noqa: F811
    site: StaticPage,
    headers: dict[str, str],
    is_threaded: bool,
) -> None:
    with served({"": site.folder}, headers=headers) as address:
        page = browser.new_page()
        page.set_default_timeout(SECONDS * 1000)
        page.goto(f"{address}README.md")
        about = page.evaluate(
            """async () => {
              const { openEngine } = await import('./library/client.js');
              const here = name => new URL(`./${name}/`, location.href).href;
              const options = { pipeline: here('pipeline'), library: here('tfjs') };
              return (await openEngine(options)).about;
            }"""
        )
        page.close()
    assert about["difference"] <= 1
    assert (about["threads"] > 1) == (is_threaded and (os.cpu_count() or 1) > 1)


@pytest.mark.browser
def test_only_what_has_changed_is_rendered(blank: Page) -> None:
    layers = blank.evaluate(
        """async () => {
          const at = async strength => (await engine.picture({ seed: 1 },
            [{ edit: 'channels-0', strength }])).layers;
          return [await at(0.1), await at(0.1), await at(0.2),
            (await engine.picture({ seed: 1 }, [], 16)).layers];
        }"""
    )
    assert layers[1] == 0 and layers[2] == 11 and layers[3] == 8


@pytest.mark.browser
def test_words(blank: Page, pipe: StyleEditPipeline) -> None:
    said_all = ("a face with a hat", "without glasses", "make him a king", "a face with red hair")
    for said in said_all:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PoorFitWarning)
            found = pipe.find(said, pipe.sample(3), method="instant")
        wanted = pipe(seed=3, edits=[(found, 1.0)]).images[0]
        told = blank.evaluate("said => engine.find(said, { seed: 3 }, [])", said)
        assert told["fit"] == pytest.approx(found.origin.fit, abs=0.002)
        asked = f"engine.picture({{ seed: 3 }}, [{{ edit: '{said}', strength: 1 }}])"
        assert difference(blank, asked, wanted) <= 2
        assert (told["verdict"] == "hardly") == bool(told["advice"])
        assert (told["fit"] == 0) == ("king" in said)


@pytest.mark.browser
def test_words_are_read_as_in_python(blank: Page, pipe: StyleEditPipeline) -> None:
    got = blank.evaluate(
        """async ([said, several, nameless]) => {
          const { Wording } = await import('./library/wording.js');
          const layout = await (await fetch('./pipeline/layout.json')).json();
          const wording = new Wording(layout.parts.instant.wording, layout.neutral);
          const refusal = text => {
            try { wording.read(text); } catch (error) { return error.message; }
          };
          return [said.map(text => wording.read(text)), several.map(text => wording.parts(text)),
            nameless.map(refusal)];
        }""",
        [SAID, SEVERAL, NAMELESS],
    )
    for text, one in zip(SAID, got[0], strict=True):
        read = reading(Words(text), pipe.neutral)
        wanted = (read.text, read.neutral or pipe.neutral, read.removal)
        assert (one["text"], one["neutral"], one["removal"]) == wanted, text
    assert got[1] == [parts(text) for text in SEVERAL]
    for text, refusal in zip(NAMELESS, got[2], strict=True):
        with pytest.raises(MethodError) as caught:
            reading(Words(text), pipe.neutral)
        assert refusal == str(caught.value)


@pytest.mark.browser
def test_tokens_and_random_numbers_are_those_of_python(
    blank: Page, pipe: StyleEditPipeline
) -> None:
    texts = [
        "A Face with PURPLE hair!",
        "it's 3 o'clock - naïve café",
        "日本語 👩🏽 ok",
        "a\n\tb  c",
    ]
    asked = [
        (seed, count) for seed in (0, 7, 2**32 + 5, 2**63 - 1) for count in (1, 15, 16, 17, 100)
    ]
    ids, numbers = blank.evaluate(
        """async ([texts, asked]) => {
          const { Tokenizer } = await import('./library/tokenizer.js');
          const { randn } = await import('./library/torch_random.js');
          const layout = await (await fetch('./pipeline/layout.json')).json();
          const tokenizer = new Tokenizer(layout.parts.text.tokenizer);
          return [texts.map(text => tokenizer.idsOf(text)),
            asked.map(([seed, count]) => [...randn(BigInt(seed), count)])];
        }""",
        [texts, [(str(seed), count) for seed, count in asked]],
    )
    assert ids == pipe.tokenizer(texts, add_special_tokens=False)["input_ids"]
    for (seed, count), got in zip(asked, numbers, strict=True):
        wanted = torch.randn(count, generator=torch.Generator().manual_seed(seed))
        assert torch.allclose(torch.tensor(got), wanted, atol=1e-5), (seed, count)


@pytest.mark.browser
def test_moves_leave_nothing_behind(blank: Page) -> None:
    before, after = blank.evaluate(
        """async () => {
          const move = i => engine.picture({ seed: 2 }, [{ edit: 'layers-0', strength: i / 1000 }]);
          await move(0);
          const before = await engine.memory();
          for (let i = 1; i <= 200; i++) await move(i);
          return [before, await engine.memory()];
        }"""
    )
    assert before == after and before["tensors"] > 0


@pytest.mark.browser
def test_bad_input(blank: Page, pipe: StyleEditPipeline, site: StaticPage, tmp_path: Path) -> None:
    def told(expression: str, *values: Any) -> str:
        return str(
            blank.evaluate(
                f"async values => {{ try {{ await {expression}; return 'nothing'; }} "
                "catch (error) { return `${error.name}: ${error.message}`; } }",
                list(values),
            )
        )

    opened = "(await import('./library/client.js')).openEngine({ ...options, ...values[0] })"
    for file, change, message in (
        ("generator.safetensors", lambda data: data[:-100], "cut short"),
        (
            "layout.json",
            lambda data: data.replace(b'_version":3', b'_version":9'),
            "format_version 9",
        ),
        ("layout.json", lambda data: data[:50], "not JSON"),
        (
            "layout.json",
            lambda data: data.replace(b"hub-web", b"hub-foo"),
            "expected stylegan-hub-web",
        ),
        ("self_test.safetensors", lambda data: b"\xff" * len(data), "cannot be read"),
    ):
        folder = site.folder / f"wrong-{message[:3].strip()}-{file[:4]}"
        shutil.copytree(site.folder / "pipeline", folder, dirs_exist_ok=True)
        (folder / file).write_bytes(change((folder / file).read_bytes()))
        address = blank.evaluate(f"new URL('./{folder.name}/', location.href).href")
        assert message in (said := told(opened, {"pipeline": address}))
        assert said.startswith("BrowserError") and said.count(". ") >= 1  # what to do
    assert "allow WebAssembly or WebGL" in told(opened, {"backends": []})

    other = {
        **edits_of_all_kinds(pipe)["instant"].config(),
        "base_model": {"fingerprint": "f" * 16},
    }
    weights = "await (await fetch('./pipeline/edits/instant.safetensors')).arrayBuffer()"
    opening = f"engine.openEdit('theirs', values[0], {weights})"
    assert "another generator" in told(opening, json.dumps(other))
    good = edits_of_all_kinds(pipe)["instant"].config()
    assert told(opening, json.dumps(good)) == "nothing"
    assert "full app" in told(opening, json.dumps({**good, "kind": "foreign"}))
    assert "no valid config.json" in told(opening, "{")
    assert "tensor vector" in told(opening, json.dumps({**good, "kind": "direction", "space": "s"}))
    assert "strengths" in told(opening, json.dumps({**good, "strength": {"min": 3}}))
    assert "whole number" in told("engine.picture({ seed: -1 }, [])")
    assert "no edit nothing here" in told("engine.loadEdit('nothing')")
    assert "Got no words" in told("engine.find(' ', { seed: 0 }, [])")
    assert "fewer words" in told("engine.find(values[0], { seed: 0 }, [])", "face " * 40)
    assert told("engine.picture({ seed: 0 }, [])") == "nothing"  # and the engine still works


@pytest.mark.browser
def test_a_backend_that_is_lost(blank: Page) -> None:
    """No other backend is left, so the page says what to do."""
    said = blank.evaluate(
        """async () => {
          const { Engine } = await import('./library/engine.js');
          const run = address => new Promise((done, fail) => Object.assign(
            document.head.appendChild(document.createElement('script')),
            { src: address, onload: done, onerror: fail }));
          for (const file of ['tf-core.es2017.min.js', 'tf-backend-wasm.es2017.min.js'])
            await run(options.library + file);
          const heard = [];
          const engine = await Engine.open(
            { ...options, run: () => {}, notice: text => heard.push(text), backends: ['wasm'] });
          engine.chosen.synthesis.pixels = async () => { throw new Error('context lost'); };
          try { await engine.picture({ seed: 0 }, []); }
          catch (error) { heard.push(`${error.name}: ${error.message}`); }
          return heard;
        }"""
    )
    (told,) = said
    assert told.startswith("BrowserError: wasm stopped working (context lost)")
    assert "full app" in told


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.parametrize("name", LOSE)
def test_a_graphics_card_is_lost_in_the_middle(
    browser: Browser,  # noqa: F811
    url: str,
    pipe: StyleEditPipeline,
    edits: dict[str, Edit],
    name: str,
) -> None:
    graphics = browser.browser_type.launch(executable_path=chromium(), args=SOFTWARE_GPU)
    page = graphics.new_page()
    page.set_default_timeout(SECONDS * 1000)
    page.goto(f"{url}README.md")
    started = page.evaluate(
        """async name => {
          const { Engine } = await import('./library/engine.js');
          const here = name => new URL(`./${name}/`, location.href).href;
          const run = address => new Promise((done, fail) => Object.assign(
            document.head.appendChild(document.createElement('script')),
            { src: address, onload: done, onerror: fail }));
          for (const file of ['core', `backend-${name}`, 'backend-wasm'])
            await run(`${here('tfjs')}tf-${file}.es2017.min.js`);
          window.notices = [];
          window.engine = await Engine.open({ pipeline: here('pipeline'), library: here('tfjs'),
            run: () => {}, notice: text => notices.push(text), backends: [name] });
          engine.backends = [name, 'wasm'];
          return [engine.info().backend, engine.info().difference];
        }""",
        name,
    )
    assert started == [name, pytest.approx(0, abs=1)]
    wanted = pipe(seed=5, edits=[(edits["instant"], 1.0)]).images[0]
    asked = "engine.picture({ seed: 5 }, [{ edit: 'instant', strength: 1 }])"
    assert difference(page, asked, wanted) <= 2
    other = pipe(seed=6, edits=[(edits["instant"], 1.0)]).images[0]
    lost = (
        f"(async () => {{ const next = {asked.replace('5', '6')}; {LOSE[name]}; return next; }})()"
    )
    assert difference(page, lost, other) <= 2
    assert page.evaluate("engine.info().backend") == "wasm"
    (notice,) = page.evaluate("notices")
    assert notice.startswith(f"{name} stopped working")
    assert difference(page, asked, wanted) <= 2
    assert (
        page.evaluate("engine.find('a hat', { seed: 5 }, []).then(found => found.name)") == "a hat"
    )
    graphics.close()


# The page


@pytest.mark.browser
def test_a_visit(browser: Browser, url: str, tmp_path: Path) -> None:  # noqa: F811
    context = browser.new_context(viewport={"width": 390, "height": 844}, accept_downloads=True)
    page = context.new_page()
    page.set_default_timeout(SECONDS * 1000)
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: problems.append(request.url))
    ready, idle = "body[data-ready]", "#say button:enabled"
    page.goto(f"{url}?seed=4&edit=mapper:0.5&edit=nothing:1")
    page.locator(ready).wait_for()
    assert "no edit nothing" in page.locator("#status").inner_text()
    assert "wasm" in page.locator("#engine").inner_text()
    assert page.locator("#stack li").count() == 1

    page.locator("#zoo button", has_text="channels-0").click()
    page.locator("#stack li").nth(1).wait_for()
    slider = page.get_by_label("channels-0", exact=True)
    slider.focus()
    page.keyboard.press("ArrowLeft")  # by keyboard alone
    assert slider.input_value() == "0.95"
    page.get_by_label("What should change").fill("a hat")
    page.keyboard.press("Enter")
    page.locator("#stack li").nth(2).wait_for()
    page.locator(idle).wait_for()
    assert "fit" in page.locator("#status").inner_text()
    assert "text=a+hat" in page.url and "channels-0%3A0.95" in page.url

    page.locator("#undo").click()
    assert page.locator("#stack li").count() == 2
    page.locator("#redo").click()
    assert page.locator("#stack li").count() == 3
    for button, suffix, frames in (("#png", "PNG", 1), ("#gif", "GIF", 32)):
        with page.expect_download() as download:
            page.locator(button).click()
        with Image.open(download.value.path()) as picture:
            assert picture.format == suffix and picture.size == (32, 32)
            assert getattr(picture, "n_frames", 1) == frames
    assert page.evaluate("document.documentElement.scrollWidth") <= 390

    buffer = io.BytesIO()
    Image.new("RGB", (70, 50), "navy").save(buffer, "PNG")
    upload = {"name": "me.png", "mimeType": "image/png", "buffer": buffer.getvalue()}
    page.locator("#portrait").set_input_files(upload)  # type: ignore[arg-type]
    page.get_by_text("nearest face").wait_for()
    assert "seed" not in page.url
    page.locator("#portrait").set_input_files({**upload, "buffer": b"no picture"})  # type: ignore[arg-type]
    page.get_by_text("This browser cannot read").wait_for()
    page.locator("#undo").click()

    page.evaluate("navigator.serviceWorker.ready.then(() => true)")
    kept = "caches.match('./pipeline/edits/mapper.safetensors').then(Boolean)"
    wait_for(page, lambda: page.evaluate(kept))
    context.set_offline(True)
    link = page.url
    page.reload()
    page.locator(ready).wait_for()
    assert page.url == link and page.locator("#stack li").count() == 3
    page.locator("#zoo button", has_text="layers-2").click()  # it was never loaded
    page.get_by_text("Check your connection").wait_for()
    context.close()
    assert [one for one in problems if not one.startswith((url, "blob:", "data:"))] == []


def status_when_opened(page: Page, address: str) -> str:
    """What the static page says once it is ready, or has given up."""
    page.goto(address)
    status = page.locator("#status")
    wait_for(page, lambda: status.inner_text() != "Loading …")
    return status.inner_text()


DAMAGE: dict[str, tuple[str, Callable[[bytes], bytes | None], str]] = {
    "truncated weights": ("pipeline/generator.safetensors", lambda b: b[:-100], "it is cut short"),
    "no weights": ("pipeline/generator.safetensors", lambda _: None, "404"),
    "other numbers": (
        "pipeline/generator.safetensors",
        lambda b: b[:-5000] + b"\xff" * 5000,
        "its picture differs from Python's",
    ),
    "another version": (
        "pipeline/layout.json",
        lambda b: b.replace(b'_version":3', b'_version":9'),
        "same version",
    ),
    "no layout": ("pipeline/layout.json", lambda _: b"null", "stylegan-hub export --format web"),
    "half a layout": (
        "pipeline/layout.json",
        lambda b: b.replace(b'"generator"', b'"no"'),
        "has no generator",
    ),
    "no wasm": ("tfjs/tfjs-backend-wasm-threaded-simd.wasm", lambda _: None, "Allow WebAss"),
    "a truncated script": (
        "tfjs/tf-backend-wasm.es2017.min.js",
        lambda b: b[:999],
        "Load the page",
    ),
    "no engine": ("library/engine.js", lambda _: None, "The engine cannot be loaded"),
    "no library": ("library/client.js", lambda _: None, "The page cannot start"),
}


@pytest.mark.browser
@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_page(browser: Browser, site: StaticPage, tmp_path: Path, name: str) -> None:  # noqa: F811
    """It says what is wrong, and works when the file is mended and the page loaded again."""
    file, damaged, message = DAMAGE[name]
    folder = shutil.copytree(site.folder, tmp_path / "page")
    content = (folder / file).read_bytes()
    (folder / file).unlink()
    if (wrong := damaged(content)) is not None:
        (folder / file).write_bytes(wrong)
        os.utime(folder / file, (0, 0))  # else the server could take the mended file for this one
    with served({"": folder}) as address:
        page = browser.new_page()
        page.set_default_timeout(SECONDS * 1000)
        said = status_when_opened(page, address)
        assert message.lower() in said.lower()
        assert "bug" not in said and said.count(". ") >= 1  # what to do
        (folder / file).write_bytes(content)
        assert status_when_opened(page, address).startswith("Pick a face")
        page.close()


@pytest.mark.browser
def test_a_damaged_copy_in_the_cache_is_replaced(browser: Browser, site: StaticPage) -> None:  # noqa: F811
    with served({"": site.folder}) as address:
        page = browser.new_page()
        page.set_default_timeout(SECONDS * 1000)
        status_when_opened(page, address)
        page.evaluate("navigator.serviceWorker.ready.then(() => true)")
        file = "pipeline/generator.safetensors"
        kept = f"caches.match('./{file}').then(answer => answer && answer.arrayBuffer())"
        size = f"{kept}.then(bytes => bytes ? bytes.byteLength : 0)"
        whole = (site.folder / file).stat().st_size
        wait_for(page, lambda: page.evaluate(size) == whole)
        page.evaluate(
            """async file => {
              for (const name of await caches.keys())
                await (await caches.open(name)).put(`./${file}`, new Response('short'));
            }""",
            file,
        )
        assert status_when_opened(page, address).startswith("Pick a face")
        wait_for(page, lambda: page.evaluate(size) == whole)
        page.close()


@pytest.mark.browser
def test_a_browser_that_cannot_compute(browser: Browser, url: str) -> None:  # noqa: F811
    without_wasm = browser.browser_type.launch(
        executable_path=chromium(), args=["--no-sandbox", "--disable-gpu", "--js-flags=--jitless"]
    )
    said = status_when_opened(without_wasm.new_page(), url)
    assert "no WebAssembly" in said and "use the full app" in said
    without_wasm.close()


@pytest.mark.browser
def test_the_server_of_the_page(browser: Browser, site: StaticPage, tmp_path: Path) -> None:  # noqa: F811
    serve = [sys.executable, "-m", "stylegan_hub.browser.served"]
    with subprocess.Popen(
        [*serve, str(site.folder), "--port", "0"], stdout=subprocess.PIPE, text=True
    ) as server:
        page = browser.new_page()
        page.goto(server.stdout.readline().split()[0])  # type: ignore[union-attr]
        assert page.evaluate("crossOriginIsolated")
        page.close()
        server.terminate()
    refused = subprocess.run([*serve, str(tmp_path)], capture_output=True, text=True)
    assert refused.returncode == 2 and "stylegan-hub space NAME --static" in refused.stderr


def test_the_page_is_whole(site: StaticPage) -> None:
    worker = (site.folder / "service_worker.js").read_text()
    assert "'development'" not in worker
    line = next(line for line in worker.splitlines() if line.startswith("const FILES"))
    for name in json.loads(line[line.index("[") : line.index("];") + 1]):
        assert (site.folder / name).exists(), name
    assert site.total == sum(p.stat().st_size for p in site.folder.rglob("*") if p.is_file()
                             and "wrong-" not in str(p))  # fmt: skip
    assert 0 < site.first < site.total and math.isfinite(site.first)
    assert (site.folder / "README.md").read_text().startswith("---\ntitle: Tiny faces\n")
    imported = [path.name for path in LIBRARY.iterdir()]
    assert all((site.folder / "library" / name).exists() for name in imported)
