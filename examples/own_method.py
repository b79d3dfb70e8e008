"""A method of your own: the mean of some seeds, minus the mean of others."""

from dataclasses import dataclass

import stylegan_hub as hub


@dataclass(frozen=True)
class Settings:
    length: float = 1.0


@hub.register
class Means(hub.Method[Settings]):
    name = "means"
    summary = "Goes from the mean of some seeds to the mean of others."
    requests = (hub.Pairs,)
    presets = {"default": Settings()}  # noqa: RUF012

    def search(self, domain, request, face, settings, on_step):
        before, after = (
            domain.sample(seeds).codes.mean(0) for seeds in (request.before, request.after)
        )
        origin = hub.Origin(training={"method": self.name})
        return hub.Direction(
            settings.length * (after - before), "w_plus", domain.base_model, origin=origin
        )


pipe = hub.StyleEditPipeline.from_pretrained("portraits")
edit = pipe.find(hub.Pairs(before=[1, 2, 3], after=[4, 5, 6]), method="means")
pipe(seed=7, edits=[(edit, 1.0)]).images[0].save("means.png")
