"""Every network is built from one frozen dataclass, which is its config.json."""

from __future__ import annotations

import inspect
import json
from dataclasses import FrozenInstanceError, fields
from pathlib import Path
from typing import Any

import pytest

from stylegan_hub.models.captioner import Captioner, CaptionerConfig
from stylegan_hub.models.discriminator import DiscriminatorConfig, StyleGAN2Discriminator
from stylegan_hub.models.encoder import Encoder, EncoderConfig
from stylegan_hub.models.landmarker import Landmarker, LandmarkerConfig
from stylegan_hub.models.parser import Parser, ParserConfig
from stylegan_hub.models.recognizer import Recognizer, RecognizerConfig
from stylegan_hub.models.stylegan2 import GeneratorConfig, StyleGAN2Generator
from stylegan_hub.names import cards_folder
from stylegan_hub.portraits.reader import AttributeReader, AttributeReaderConfig

FOUR = {"units": (1, 1, 1, 1), "widths": (8, 8, 8, 8), "reduction": 4}
NETWORKS: list[tuple[type[Any], type[Any], dict[str, Any]]] = [
    (StyleGAN2Generator, GeneratorConfig, {"img_resolution": 16, "channels": (8, 8, 8)}),
    (StyleGAN2Discriminator, DiscriminatorConfig, {"img_resolution": 16, "channels": (8, 8, 8)}),
    (Encoder, EncoderConfig, {"num_ws": 4, "w_dim": 8, "input_size": (32, 64), **FOUR}),
    (Recognizer, RecognizerConfig, {"input_size": 32, "embedding_dim": 8, **FOUR}),
    (Parser, ParserConfig, {"parts": ("hair", "skin"), "width": 4, "input_size": 32}),
    (Landmarker, LandmarkerConfig, {"input_size": 32, "widths": (8, 8, 8)}),
    (Captioner, CaptionerConfig, {"vocabulary": ("a", "hat"), "widths": (8,), "blocks": (1,)}),
    (AttributeReader, AttributeReaderConfig, {"channels": (8, 8, 8), "attributes": {"hat": "ny"}}),
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
