"""Change a face with words, and keep the edit."""

import stylegan_hub as hub

pipe = hub.StyleEditPipeline.from_pretrained("portraits")
edit = pipe.find("a face with green hair")
pipe(seed=7, edits=[(edit, 1.0)]).images[0].save("green-hair.png")
edit.save_pretrained("green-hair")
