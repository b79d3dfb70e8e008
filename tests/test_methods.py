"""The protocol of all methods: one signature, the same checks, an open registry."""

from __future__ import annotations

import re
from dataclasses import replace
from importlib import metadata
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import torch
from outside import Blend, blend_registered, expected_vector
from PIL import Image
from test_regions import parsing_pipeline  # noqa: F401

import stylegan_hub as hub
from stylegan_hub import plugins
from stylegan_hub.domain import OPTIONAL, RECIPES
from stylegan_hub.edits.base import Edit, Origin
from stylegan_hub.edits.direction import Direction
from stylegan_hub.edits.latent_mapper import LatentMapper
from stylegan_hub.edits.stack import EditStack
from stylegan_hub.errors import MethodError
from stylegan_hub.methods import method as protocol
from stylegan_hub.methods.method import Method, Nothing, Pairs, Picture, Words, caption, get, known
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.steps import Step


def test_a_method_from_outside(tiny_pipeline: StyleEditPipeline, tmp_path: Path) -> None:
    request = Pairs([1, 2], [3, 4])
    expected = expected_vector(tiny_pipeline, [1, 2], [3, 4])
    with blend_registered():
        assert "blend" in known() and isinstance(get("blend"), Blend)
        assert tiny_pipeline.find(request, method="blend").vector.equal(expected)
        steps: list[Step] = []
        edit = tiny_pipeline.find(request, method="blend", settings="far", on_step=steps.append)
        assert [(step.index, step.total) for step in steps] == [(1, 2), (2, 2)]
        assert edit.vector.equal(2 * expected)
        again = hub.load_edit(edit.save_pretrained(tmp_path / "blend"))
        assert caption(edit) == caption(again) == "blend to a change"
    with pytest.raises(MethodError) as error:
        get("blend")
    assert error.value.got == "blend"
    assert again.vector.equal(edit.vector) and caption(again)  # the edit works without the method


def test_a_method_by_an_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "_METHODS", dict(protocol._METHODS))
    entry = EntryPoint("blend", "outside:Blend", "stylegan_hub.methods")
    monkeypatch.setattr(
        protocol, "entry_points", lambda group: [entry] if group == entry.group else []
    )
    assert type(get("blend")) is Blend


def test_entry_points_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading them takes 16 ms, and each edit that a page shows asks for its method."""
    found = metadata.EntryPoints([EntryPoint("a", "b", "c")])
    asked: list[str] = []
    plugins.entry_points.cache_clear()
    monkeypatch.setattr(metadata, "entry_points", lambda group: asked.append(group) or found)
    assert [*plugins.entry_points("one"), *plugins.entry_points("one")] == [*found, *found]
    plugins.entry_points("two")
    assert asked == ["one", "two"]
    plugins.entry_points.cache_clear()


def test_names_of_methods_are_sound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "_METHODS", dict(protocol._METHODS))
    with pytest.raises(ValueError, match="expected letters, digits and _"):
        hub.register(type("Nameless", (Blend,), {"name": "a b"}))
    with pytest.raises(ValueError, match=r"'table' belongs to stylegan_hub\.methods\.table"):
        hub.register(type("Other", (Blend,), {"name": "table"}))
    presets = {"far": Blend.presets["far"]}
    with pytest.raises(ValueError, match="including 'default'"):
        hub.register(type("Bare", (Blend,), {"name": "bare", "presets": presets}))


# What all methods have in common


@pytest.fixture(params=sorted(known()))
def method(request: pytest.FixtureRequest) -> Method[Any]:
    return known()[request.param]


def test_a_method_says_what_it_is(method: Method[Any]) -> None:
    assert method.summary.endswith(".") and len(method.summary) < 120
    assert set(method.requests) <= {Words, Picture, Pairs, Nothing}
    assert all(type(preset) is method.settings_type for preset in method.presets.values())
    for name in method.former_names:
        assert get(name) is method
    origin = Origin("a hat", "a face", {"method": method.name, "target": "x", "region": "hair"})
    assert method.caption(origin) and method.account(origin).endswith(".")
    assert protocol.method_of(origin) is method


def test_an_unknown_preset(method: Method[Any], parsing_pipeline: StyleEditPipeline) -> None:  # noqa: F811
    request = {Words: Words("a hat"), Nothing: Nothing("hair")}.get(method.requests[0])
    with pytest.raises(MethodError, match="Got the preset 'loud'") as error:
        method.settings(parsing_pipeline, request or Words("a hat"), "loud")
    assert error.value.got == "loud" and "default" in error.value.expected
    with pytest.raises(MethodError, match=f"the method '{method.name}' takes") as error:
        method.settings(parsing_pipeline, request or Words("a hat"), 7)
    assert error.value.got == "int"


def test_a_request_of_another_type(
    method: Method[Any],
    parsing_pipeline: StyleEditPipeline,  # noqa: F811
) -> None:
    other = next(
        request
        for request in (Nothing(), Picture(Image.new("RGB", (8, 8))), Words("a hat"))
        if not isinstance(request, method.requests)
    )
    with pytest.raises(MethodError, match=f"Got a request of type {type(other).__name__}") as error:
        method.checked_request(parsing_pipeline, other)
    assert error.value.got == type(other).__name__ and error.value.remedy


def test_unknown_method(tiny_pipeline: StyleEditPipeline) -> None:
    with pytest.raises(
        MethodError, match=r"Got the method 'magic'; there are .*essence, "
    ) as error:
        tiny_pipeline.find("a hat", method="magic")
    assert error.value.got == "magic" and "optimization" in error.value.expected


@pytest.mark.parametrize("part", [*OPTIONAL, "crystal_ball"])
def test_a_missing_part_names_the_recipe_that_makes_it(
    tiny_pipeline: StyleEditPipeline, part: str
) -> None:
    needy = type("Needy", (Blend,), {"needs": frozenset([part])})()
    assert not needy.fits(tiny_pipeline)
    with pytest.raises(MethodError) as error:
        needy.find(tiny_pipeline, Nothing())
    assert error.value.got == () and error.value.expected == (part,)
    named = re.findall(r"recipes/\w+\.py", error.value.remedy)
    assert named == ([RECIPES[part]] if part in OPTIONAL else [])
    assert all((Path(hub.__file__).parents[1] / recipe).is_file() for recipe in named)


def test_missing_parts(tiny_pipeline: StyleEditPipeline) -> None:
    with pytest.raises(MethodError) as error:
        tiny_pipeline.find("a face with a hat", method="local")
    assert error.value.expected == ("parser",) and RECIPES["parser"] in error.value.remedy
    with pytest.raises(MethodError, match=r"No direction table .* is bundled") as error:
        tiny_pipeline.find("a face with a hat", method="table")
    assert "gradient" in error.value.remedy


def test_words_that_cannot_be_searched(tiny_pipeline: StyleEditPipeline) -> None:
    for text in ("", " \n"):
        with pytest.raises(ValueError, match="Got no words"):
            tiny_pipeline.find(text)
    with pytest.raises(ValueError, match="this CLIP reads 22 tokens"):
        tiny_pipeline.find("hat " * 100)
    with pytest.raises(ValueError, match="Got no words"):
        tiny_pipeline.find(Words("a hat", neutral=" "))
    with pytest.raises(MethodError, match="looks at the whole picture") as error:
        tiny_pipeline.find(Words("a hat", region="hair"), method="optimization")
    assert "local" in error.value.remedy


def test_the_best_method_is_chosen(
    tiny_pipeline: StyleEditPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def noted(self: Method[Any], *args: Any, **options: Any) -> None:
        asked.append(self.name)

    monkeypatch.setattr(Method, "find", noted)
    tiny_pipeline.find("a hat", tiny_pipeline.sample(1))
    tiny_pipeline.find("a hat")
    tiny_pipeline.find(Image.new("RGB", (8, 8)))
    assert asked == ["optimization", "optimization", "essence"]
    with pytest.raises(MethodError, match="No method answers"):  # no parser here
        tiny_pipeline.find(Words("a hat", region="hair"))


def test_an_edit_for_one_face_is_a_fixed_displacement(
    tiny_pipeline: StyleEditPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe, face = tiny_pipeline, tiny_pipeline.sample(5)
    mapper = get("mapper")
    settings = replace(mapper.presets["default"], steps=2, batch_size=2, population=4, lr=30.0)
    everybody = mapper.find(pipe, "a face with a hat", settings=settings)
    assert isinstance(everybody, LatentMapper)
    own = mapper.find(pipe, "a face with a hat", face, settings=settings)
    assert isinstance(own, Direction) and own.length > 0
    assert torch.allclose(own.vector, everybody.delta(face.codes)[0], atol=1e-6)
    stack = EditStack().added(own, 1.0).added(own, -1.0)
    assert torch.allclose(stack.apply(pipe, face).codes, face.codes, atol=1e-6)


def test_what_is_kept_does_not_move(tiny_pipeline: StyleEditPipeline) -> None:
    pipe, face = tiny_pipeline, tiny_pipeline.sample(5)
    settings = replace(get("optimization").presets["default"], steps=4, shared_steps=0, views=0)

    def moved(keep: list[str]) -> tuple[float, Edit]:
        edit = pipe.find("a face with a hat", face, keep=keep, settings=settings)
        small = edit.apply(face, 0.05)
        change = pipe.encode_text("a face with a beard") - pipe.encode_text("a face")
        seen = [pipe.encode_image(pipe.synthesize(one)) @ change.T for one in (face, small)]
        return float((seen[1] - seen[0]).abs()), edit

    free, _ = moved([])
    kept, edit = moved(["a beard"])
    assert kept < 0.3 * free
    assert edit.origin.training["keep"] == ["a beard"] and edit.length > 0


def test_what_cannot_be_kept(tiny_pipeline: StyleEditPipeline) -> None:
    settings = replace(get("mapper").presets["default"], steps=1, batch_size=2, population=4)
    with pytest.raises(MethodError, match="differs from face to face") as error:
        tiny_pipeline.find("a hat", method="mapper", keep=["hair"], settings=settings)
    assert "Give a face" in error.value.remedy
    with pytest.raises(MethodError, match="request of type Nothing"):
        tiny_pipeline.find(Nothing("hair"), method="local", keep=["hair"])
