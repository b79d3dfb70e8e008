"""The protocol of all methods: one signature, the same checks, an open registry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from PIL import Image
from test_regions import parsing_pipeline  # noqa: F401

import stylegan_hub as hub
from stylegan_hub.edits.base import Edit, Origin
from stylegan_hub.edits.direction import Direction
from stylegan_hub.edits.latent_mapper import LatentMapper
from stylegan_hub.edits.stack import EditStack
from stylegan_hub.errors import MethodError
from stylegan_hub.latents import Latents, Space
from stylegan_hub.methods import method as protocol
from stylegan_hub.methods.method import Method, Nothing, Pairs, Picture, Words, caption, get, known
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.steps import OnStep, Step


@dataclass(frozen=True)
class Shake:
    """Settings of a method of somebody's own."""

    size: float = 0.1
    seed: int = 0


class Shaken(Method[Shake]):
    """Moves a face at random."""

    name: ClassVar[str] = "shaken"
    summary: ClassVar[str] = "Moves a face at random."
    requests: ClassVar[tuple[type[Any], ...]] = (Nothing, Words)
    presets: ClassVar[Mapping[str, Any]] = {"default": Shake(), "hard": Shake(size=1.0)}

    def search(
        self,
        domain: Any,
        request: Any,
        face: Latents | None,
        settings: Shake,
        on_step: OnStep | None,
    ) -> Edit:
        """A random direction."""
        shape = (domain.generator.num_ws, domain.generator.config.w_dim)
        random = torch.Generator().manual_seed(settings.seed)
        vector = settings.size * torch.randn(shape, generator=random)
        if on_step is not None:
            on_step(Step(1, 1, note="shaken"))
        origin = Origin(training={"method": self.name})
        return Direction(vector, Space.W_PLUS, domain.base_model, origin=origin)

    def caption(self, origin: Origin) -> str:
        """What to call it."""
        return "a shake"


@pytest.fixture
def shaken(monkeypatch: pytest.MonkeyPatch) -> type[Shaken]:
    monkeypatch.setattr(protocol, "_METHODS", dict(protocol._METHODS))
    return hub.register(Shaken)


def test_a_method_from_outside(
    shaken: type[Shaken], tiny_pipeline: StyleEditPipeline, tmp_path: Path
) -> None:
    assert "shaken" in known() and isinstance(get("shaken"), shaken)
    steps: list[Step] = []
    edit = tiny_pipeline.find(Nothing(), method="shaken", settings="hard", on_step=steps.append)
    assert [step.note for step in steps] == ["shaken"]
    assert edit.vector.std() > 0.5 and caption(edit) == "a shake"
    again = hub.load_edit(edit.save_pretrained(tmp_path / "shake"))
    assert caption(again) == "a shake"


def test_a_method_by_an_entry_point(
    monkeypatch: pytest.MonkeyPatch, tiny_pipeline: StyleEditPipeline
) -> None:
    monkeypatch.setattr(protocol, "_METHODS", dict(protocol._METHODS))
    entry = EntryPoint("shaken", "test_methods:Shaken", "stylegan_hub.methods")
    monkeypatch.setattr(
        protocol, "entry_points", lambda group: [entry] if group == entry.group else []
    )
    assert type(get("shaken")).__name__ == "Shaken"


def test_names_of_methods_are_sound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "_METHODS", dict(protocol._METHODS))
    with pytest.raises(ValueError, match="expected letters, digits and _"):
        hub.register(type("Nameless", (Shaken,), {"name": "a b"}))
    with pytest.raises(ValueError, match=r"The method 'table' is stylegan_hub\.methods\.table"):
        hub.register(type("Other", (Shaken,), {"name": "table"}))
    with pytest.raises(ValueError, match="'default' among them"):
        hub.register(type("Bare", (Shaken,), {"name": "bare", "presets": {"hard": Shake()}}))


# What all methods keep to


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


def test_missing_parts(tiny_pipeline: StyleEditPipeline) -> None:
    with pytest.raises(MethodError, match="needs a pipeline with a parser") as error:
        tiny_pipeline.find("a face with a hat", method="local")
    assert error.value.expected == ("parser",) and "train_parser" in error.value.remedy
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
    with pytest.raises(MethodError, match="another for every face") as error:
        tiny_pipeline.find("a hat", method="mapper", keep=["hair"], settings=settings)
    assert "Give a face" in error.value.remedy
    with pytest.raises(MethodError, match="Got words to keep with a request of type Nothing"):
        tiny_pipeline.find(Nothing("hair"), method="local", keep=["hair"])
