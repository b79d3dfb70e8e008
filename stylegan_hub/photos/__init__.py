"""From a photograph to a latent and back: read, align, invert, edit, paste.

    photo = read_photo("me.jpg")                              # photo.py
    landmarks = choose(find_faces(photo, finder(pipe)))       # finders.py
    alignment = align(photo, landmarks, framing(pipe))        # align.py
    latents = pipe.invert(cut(photo, alignment, size), 100)   # invert.py
    paste(photo, alignment, after, before)                    # paste.py

`person.py` keeps the result in one file, and `folder.py` handles a whole folder of photographs.
For pipelines that do not render faces, the middle of a photograph is taken (`finders.locate`).
"""
