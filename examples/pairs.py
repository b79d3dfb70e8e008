"""Learn a slider from a few pairs of pictures, without words."""

import stylegan_hub as hub

pipe = hub.StyleEditPipeline.from_pretrained("portraits")
plain = pipe.sample([20, 21, 22, 23])
changed = pipe.apply(plain, [(hub.load_edit("glasses"), 1.0)])
pairs = hub.Pairs(pipe.synthesize(plain), pipe.synthesize(changed))
slider = pipe.find(pairs, method="pairs", settings="mean")
pipe(seed=7, edits=[(slider, 1.0)]).images[0].save("glasses.png")
