"""New faces that fit a text."""

import stylegan_hub as hub
from stylegan_hub import images

pipe = hub.StyleEditPipeline.from_pretrained("portraits")
faces = pipe.from_text("an old man with a beard and a hat", seeds=[0, 1, 2, 3])
images.grid(faces.images, columns=4).save("old-men.png")
