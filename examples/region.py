"""Limit a change to one part of the face."""

import stylegan_hub as hub
from stylegan_hub import images

pipe = hub.StyleEditPipeline.from_pretrained("portraits")
purple = hub.load_edit("purple-hair")
everywhere = pipe(seed=7, edits=[(purple, 1.0)]).images[0]
hair_alone = pipe(seed=7, edits=[(purple, 1.0)], region="hair").images[0]
images.grid([pipe(seed=7).images[0], everywhere, hair_alone], columns=3).save("region.png")
