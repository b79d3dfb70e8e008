"""The networks that judge edits. None takes part in a loss, a search or a choice of settings.

The attribute reader says what a picture shows, the critic whether it is clean (it redraws the
picture), and a recognizer of its own whether the person is still the same. All three are made for
the drawn portraits, and mean nothing for pictures of another kind.

The critic compares with unedited pictures, whose scores take minutes. Those of the bundled
generator are in unedited.json:

    python -m stylegan_hub.metrics.judges   # writes it, after its generator or encoder was trained
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from stylegan_hub.metrics.clean import Critic, clean_share
from stylegan_hub.metrics.identity_similarity import identity_similarity
from stylegan_hub.models.recognizer import Recognizer
from stylegan_hub.models.stylegan2 import StyleGAN2Generator
from stylegan_hub.names import bundled, resolve
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.portraits.dataset import UNSEEN_SEED
from stylegan_hub.portraits.reader import AttributeReader

READER = "attribute-reader"
"""The bundled reader of drawn portraits."""
RECOGNIZER = "identity-judge"
"""The bundled recognizer of drawn portraits that no loss uses."""

UNEDITED = range(UNSEEN_SEED + 500_000, UNSEEN_SEED + 500_256)
"""Seeds of the unedited samples with which the critic compares."""

_AT_ONCE = 16
_SCORES = Path(__file__).with_name("unedited.json")


@dataclass(frozen=True)
class Judges:
    """The networks that judge the edits of one pipeline. What a missing one judges is left out.

    Attributes:
        reader: finds attributes; judges success and collateral.
        critic: judges whether edited pictures are clean.
        recognizer: judges whether faces stay the same person; in no loss.
    """

    reader: AttributeReader | None = None
    critic: Critic | None = None
    recognizer: Recognizer | None = None

    @torch.no_grad()
    def appearance(
        self,
        pipe: StyleEditPipeline,
        before: Float[Tensor, "n 3 h w"],
        after: Float[Tensor, "n 3 h w"],
        truncation_psi: float = 0.7,
    ) -> dict[str, float]:
        """What critic and recognizer say about edited pictures, whatever the edit asked for.

        Args:
            before, after: the same faces, in [-1, 1].
            truncation_psi: of these faces, 0 to 1.

        Returns:
            - clean: share in [0, 1] of edited pictures that the critic accepts;
            - judged_identity: mean cosine of before and after for the recognizer.
        """
        found = {}
        if self.critic is not None:
            unedited = self.unedited(pipe, truncation_psi)
            found["clean"] = clean_share(unedited, self.critic.score(after))
        if self.recognizer is not None:
            similarity = identity_similarity(self.recognizer, before, after, _AT_ONCE)
            found["judged_identity"] = float(similarity.mean())
        return found

    @torch.no_grad()
    def unedited(self, pipe: StyleEditPipeline, truncation_psi: float) -> Float[Tensor, " n"]:
        """The critic's scores of 256 unedited samples, which are kept."""
        if self.critic is None:
            raise ValueError("Got judges without a critic; expected one that scores samples.")
        kept = self._unedited
        key = f"{pipe.base_model.fingerprint} {self.critic.fingerprint} {truncation_psi}"
        if key not in kept:
            known = json.loads(_SCORES.read_text(encoding="utf-8")).get(key)
            kept[key] = (
                scores_of(self.critic, pipe, UNEDITED, truncation_psi)
                if known is None
                else torch.tensor(known)
            )
        return kept[key]

    @cached_property
    def _unedited(self) -> dict[str, Tensor]:
        return {}


@torch.no_grad()
def scores_of(
    critic: Critic, pipe: StyleEditPipeline, seeds: Sequence[int], truncation_psi: float
) -> Float[Tensor, " n"]:
    """The critic's scores of unedited samples."""
    parts = [seeds[i : i + _AT_ONCE] for i in range(0, len(seeds), _AT_ONCE)]
    return torch.cat(
        [
            critic.score(pipe.synthesize(pipe.sample(part, truncation_psi)).clamp(-1, 1))
            for part in parts
        ]
    )


def reader_for(pipe: StyleEditPipeline, name: str | None, target: object) -> AttributeReader | None:
    """The attribute reader for the pictures of a pipeline; None if its readings mean nothing.

    The bundled reader knows drawn portraits. It is used for the bundled generator, and for another
    one only if a target implies that its pictures have these attributes.

    Args:
        name: bundled name, folder or Hub id; None for no reader.
        target: what the reader should look for, or any true value to use it for this pipeline.

    Raises:
        NotFoundError, ArtifactError: there is no reader with this name, or it cannot be loaded.
    """
    if name is None:
        return None
    if name == READER and not target and not _has_bundled_generator(pipe):
        warnings.warn(
            f"The {READER} knows only drawn portraits, and this pipeline has another "
            "generator, so its readings are left out. If the pipeline does render drawn "
            "portraits, give a target, or the reader as a folder (cards/attribute-reader).",
            stacklevel=2,
        )
        return None
    reader = AttributeReader.from_pretrained(resolve(name, "model"))
    return reader.eval().to(pipe.device)


def judges_for(pipe: StyleEditPipeline, reader: str | None, target: object) -> Judges:
    """The judges for the pictures of a pipeline.

    The critic and the bundled recognizer are used for the bundled generator only.

    Args:
        reader, target: see `reader_for`.

    Raises:
        NotFoundError, ArtifactError: a judge cannot be found or loaded.
    """
    chosen = reader_for(pipe, reader, target)
    folders = bundled("model")
    if RECOGNIZER not in folders or not _has_bundled_generator(pipe):
        return Judges(chosen)
    recognizer = Recognizer.from_pretrained(folders[RECOGNIZER]).eval().to(pipe.device)
    critic = None if getattr(pipe, "encoder", None) is None else Critic(pipe)
    return Judges(chosen, critic, recognizer)


def _has_bundled_generator(pipe: StyleEditPipeline) -> bool:
    folder = resolve("portraits", "pipeline") / "generator"
    portraits = StyleGAN2Generator.from_pretrained(folder)
    return portraits.fingerprint() == pipe.base_model.fingerprint


def main() -> None:
    """Write unedited.json."""
    psi = 0.7
    pipe = StyleEditPipeline.from_pretrained("portraits", device="cpu", runtime="pytorch")
    critic = Critic(pipe)
    scores = scores_of(critic, pipe, UNEDITED, psi).tolist()
    key = f"{pipe.base_model.fingerprint} {critic.fingerprint} {psi}"
    text = json.dumps({key: [round(score, 6) for score in scores]})
    _SCORES.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
