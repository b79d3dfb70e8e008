"""Every network is built from one frozen dataclass, which is its config.json."""

from __future__ import annotations

import inspect
import json
from dataclasses import FrozenInstanceError, fields
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from stylegan_hub.artifacts import SavedWhole
from stylegan_hub.errors import ArtifactError
from stylegan_hub.models.captioner import Captioner, CaptionerConfig
from stylegan_hub.models.detailer import Detailer, DetailerConfig
from stylegan_hub.models.discriminator import DiscriminatorConfig, StyleGAN2Discriminator
from stylegan_hub.models.encoder import Encoder, EncoderConfig
from stylegan_hub.models.instant import InstantConfig, InstantModel
from stylegan_hub.models.landmarker import Landmarker, LandmarkerConfig
from stylegan_hub.models.parser import Parser, ParserConfig
from stylegan_hub.models.recognizer import Recognizer, RecognizerConfig
from stylegan_hub.models.stylegan2 import GeneratorConfig, StyleGAN2Generator
from stylegan_hub.names import cards_folder
from stylegan_hub.portraits.reader import AttributeReader, AttributeReaderConfig

FOUR = {"units": (1, 1, 1, 1), "widths": (8, 8, 8, 8), "reduction": 4}
MADE_FOR: dict[str, Any] = {"base_model": {}, "clip": {}}
NETWORKS: list[tuple[type[Any], type[Any], dict[str, Any]]] = [
    (StyleGAN2Generator, GeneratorConfig, {"img_resolution": 16, "channels": (8, 8, 8)}),
    (StyleGAN2Discriminator, DiscriminatorConfig, {"img_resolution": 16, "channels": (8, 8, 8)}),
    (Encoder, EncoderConfig, {"num_ws": 4, "w_dim": 8, "input_size": (32, 64), **FOUR}),
    (Recognizer, RecognizerConfig, {"input_size": 32, "embedding_dim": 8, **FOUR}),
    (Parser, ParserConfig, {"parts": ("hair", "skin"), "width": 4, "input_size": 32}),
    (Landmarker, LandmarkerConfig, {"input_size": 32, "widths": (8, 8, 8)}),
    (Detailer, DetailerConfig, {"patch": 2, "widths": (8, 8)}),
    (Captioner, CaptionerConfig, {"vocabulary": ("a", "hat"), "widths": (8,), "blocks": (1,)}),
    (AttributeReader, AttributeReaderConfig, {"channels": (8, 8, 8), "attributes": {"hat": "ny"}}),
    (InstantModel, InstantConfig, {"samples": 4, "w_dim": 3, "embedding_dim": 2, **MADE_FOR}),
]
CARDS = {
    "portraits/generator": StyleGAN2Generator,
    "portraits/encoder": Encoder,
    "portraits/recognizer": Recognizer,
    "portraits/parser": Parser,
    "portraits/landmarker": Landmarker,
    "attribute-reader": AttributeReader,
}
NOTES = ("_class_name", "_diffusers_version", "_name_or_path")


@pytest.mark.parametrize(("network", "config", "chosen"), NETWORKS)
def test_a_config_is_the_arguments_and_the_file(
    network: type[Any], config: type[Any], chosen: dict[str, Any], tmp_path: Path
) -> None:
    own = config(**chosen)
    with pytest.raises(FrozenInstanceError):
        setattr(own, fields(own)[0].name, None)
    names = [field.name for field in fields(own)]
    assert list(inspect.signature(network).parameters) == names

    built = network(**chosen)
    built.save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    as_in_json = json.loads(json.dumps({name: getattr(own, name) for name in names}))
    assert {name: written[name] for name in written if name not in NOTES} == as_in_json | (
        {"attributes": {"hat": ["n", "y"]}} if network is AttributeReader else {}
    )
    again = network.from_pretrained(tmp_path)
    assert all(again.state_dict()[name].equal(value) for name, value in built.state_dict().items())


def test_the_networks_of_these_tests_are_all_that_can_be_saved() -> None:
    networks = {one for one in SavedWhole.__subclasses__() if issubclass(one, torch.nn.Module)}
    assert networks == {network for network, _, _ in NETWORKS}


@pytest.mark.parametrize(("network", "config", "chosen"), NETWORKS)
def test_weights_are_read_completely_or_not_at_all(
    network: type[Any], config: type[Any], chosen: dict[str, Any], tmp_path: Path
) -> None:
    """diffusers alone would fill what is missing with random numbers."""
    network(**chosen).save_pretrained(tmp_path)
    path = tmp_path / network.saved_as
    whole = load_file(path)
    missing, unlike = sorted(whole)[0], sorted(whole)[-1]
    for damage, said in (
        ({missing: None}, rf"lacks 1 of the tensors that its config describes \({missing}\)"),
        (
            {unlike: torch.zeros(3, 1, 7)},
            rf"has tensors of other shapes \({unlike} is \[3, 1, 7\], not",
        ),
        (dict.fromkeys(whole), rf"lacks {len(whole)} of the tensors"),
    ):
        kept = {name: tensor for name, tensor in (whole | damage).items() if tensor is not None}
        save_file(kept, path, {"format": "pt"})
        with pytest.raises(ArtifactError, match=said) as caught:
            network.from_pretrained(tmp_path)
        assert str(tmp_path) in str(caught.value) and set(caught.value.got) == set(damage)
    save_file(whole | {"more": torch.zeros(1)}, path, {"format": "pt"})
    network.from_pretrained(tmp_path)


@pytest.mark.parametrize("card", CARDS)
def test_a_bundled_network_writes_the_config_that_it_was_read_from(
    card: str, tmp_path: Path
) -> None:
    folder = cards_folder() / card
    CARDS[card].from_pretrained(folder).save_pretrained(tmp_path)
    before, after = (json.loads((one / "config.json").read_text()) for one in (folder, tmp_path))
    for name in NOTES:
        before.pop(name, None), after.pop(name, None)
    assert before == {name: after[name] for name in before}  # earlier ones may lack later fields


@pytest.mark.parametrize(("network", "config", "chosen"), NETWORKS)
def test_an_unknown_field(network: type[Any], config: type[Any], chosen: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        network(**chosen, loudness=11)
