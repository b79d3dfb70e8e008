"""Requests to change a portrait: removals, additions, comparisons and commands.

Examples are "take the hat off", "younger" and "dye the hair green". Used as captions, requests are
true of the portraits in which they are already fulfilled. In this way CLIP learns what a request
leads to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from stylegan_hub.portraits.attributes import ATTRIBUTES

Request = tuple[Mapping[str, frozenset[str]], tuple[str, ...]]

HAIR_COLORS: dict[str, tuple[str, ...]] = {
    "black": ("black", "jet-black", "raven-black", "ebony", "pitch-black"),
    "brown": ("brown", "chestnut", "brunette", "hazelnut", "chocolate-brown"),
    "blonde": ("blonde", "blond", "golden", "fair", "yellow", "flaxen", "honey-blonde"),
    "red": ("red", "ginger", "orange", "copper", "carrot-red"),
    "grey": ("grey", "gray", "silver", "ash-grey", "greying"),
    "white": ("white", "snow-white", "milk-white"),
    "purple": ("purple", "violet", "lilac", "lavender"),
    "pink": ("pink", "rose", "hot-pink"),
    "green": ("green", "emerald", "lime-green"),
}

# Things that can be added and removed: their names without and with an article.
_THINGS: dict[str, tuple[tuple[str, str], ...]] = {
    "glasses": (("glasses", "glasses"), ("spectacles", "spectacles"), ("specs", "specs")),
    "hat": (("hat", "a hat"), ("cap", "a cap"), ("beanie", "a beanie")),
    "beard": (("beard", "a beard"),),
    "mustache": (("mustache", "a mustache"), ("moustache", "a moustache")),
    "earrings": (("earrings", "earrings"), ("gold hoops", "gold hoops")),
    "lipstick": (("lipstick", "lipstick"),),
    "freckles": (("freckles", "freckles"),),
}
_REMOVALS = (
    "remove the {x}", "take the {x} off", "take off the {x}", "no {x}", "without the {x}",
    "without any {x}", "no more {x}", "not any {x}", "drop the {x}", "delete the {x}",
    "the {x} taken off", "the {x} removed",
)  # fmt: skip
_ADDITIONS = (
    "add {x}", "put on {x}", "put {x} on", "give him {x}", "give her {x}", "wear {x}",
    "with {x}", "give them {x}", "draw {x}", "have {x}",
)  # fmt: skip
_DYEING = (
    "dye the hair {c}", "make the hair {c}", "color the hair {c}", "give her {c} hair",
    "give him {c} hair", "change the hair color to {c}", "paint the hair {c}",
)  # fmt: skip

# Texts about parts that every face has; they are true of all portraits.
PARTS_SAID = (
    "a nose", "the nose", "ears", "the ears", "eyes", "a pair of eyes", "eyebrows", "brows",
    "a neck", "the neck", "a chin", "a mouth", "cheeks", "a forehead", "lips", "shoulders",
    "a face with a nose and a mouth", "two eyes and two ears", "a head on a neck",
)  # fmt: skip

# An attribute, the values that fulfill a request ("-value": all but this one), and the ways to say
# the request.
_PLAIN: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("hair_style", ("bald",), (
        "cut the hair off", "shave the head", "remove the hair", "take away the hair",
        "cut all the hair", "make him bald", "make her bald", "lose all hair", "no more hair",
    )),
    ("hair_style", ("-bald",), ("not bald", "grow hair", "add some hair", "give him hair")),
    ("hair_style", ("short",), ("cut the hair short", "make the hair short", "trim the hair")),
    ("hair_style", ("bald", "short", "spiky"), ("shorter hair", "make the hair shorter")),
    ("hair_style", ("long",), (
        "grow the hair", "let the hair grow long", "make the hair long", "very long hair",
    )),
    ("hair_style", ("long", "bob"), ("longer hair", "make the hair longer")),
    ("hair_style", ("curly", "afro"), (
        "curl the hair", "curlier hair", "make the hair curly", "more curls", "frizzier hair",
    )),
    ("hair_style", ("short", "bob", "long"), (
        "straighten the hair", "straighter hair", "no curls", "less curly",
    )),
    ("hair_style", ("afro", "curly"), ("more hair", "bigger hair", "a lot more hair")),
    ("hair_style", ("mohawk",), ("shave the sides of the head", "make it a mohawk")),
    ("hair_style", ("bald", "mohawk", "short"), ("less hair",)),
    ("hair_color", ("black", "brown"), ("darker hair", "make the hair darker")),
    ("hair_color", ("blonde", "white", "grey"), (
        "lighter hair", "make the hair lighter", "bleach the hair",
    )),
    ("hair_color", ("purple", "pink", "green"), ("a funny hair color", "colorful dyed hair")),
    ("hair_color", ("black", "brown", "blonde", "red", "grey", "white"), (
        "a natural hair color", "hair that is not dyed",
    )),
    ("hair_color", ("blonde", "red"), ("strawberry blonde hair",)),
    ("skin", ("dark",), ("darker skin", "make the skin darker", "a darker skin tone")),
    ("skin", ("light",), ("lighter skin", "paler skin", "make the skin lighter")),
    ("skin", ("medium", "dark"), ("not so pale", "more tanned")),
    ("beard", ("no",), ("shave the beard", "shave off the beard", "shave the chin")),
    ("beard", ("yes",), ("more beard", "a hairy chin", "a bushier beard")),
    ("mustache", ("no",), ("shave the mustache", "shave the upper lip")),
    ("mustache", ("yes",), ("grow a mustache", "hair on the upper lip")),
    ("expression", ("smiling",), (
        "smile", "make him smile", "make her smile", "cheer up", "happier", "more cheerful",
        "laugh", "say cheese", "a bigger smile", "be happy", "much happier", "less serious",
    )),
    ("expression", ("neutral",), (
        "calm down", "calmer", "relax", "a straight face", "stay calm", "more neutral",
        "no emotion",
    )),
    ("expression", ("sad",), ("sadder", "make him sad", "more unhappy", "be sad")),
    ("expression", ("angry",), (
        "angrier", "make him angry", "more furious", "get angry", "less friendly",
    )),
    ("expression", ("surprised",), (
        "open the mouth", "more surprised", "be amazed", "make him gasp", "surprise her",
    )),
    ("expression", ("-angry",), (
        "less angry", "not angry", "no anger", "less furious", "no longer angry",
        "stop being angry",
    )),
    ("expression", ("-sad",), (
        "less sad", "not sad", "no longer sad", "less gloomy", "stop being sad",
    )),
    ("expression", ("-surprised",), ("less surprised", "not surprised", "close the mouth")),
    ("expression", ("-smiling",), (
        "stop smiling", "less smiling", "no smile", "wipe off the smile", "less happy",
    )),
    ("eyes", ("closed",), (
        "close the eyes", "shut the eyes", "fall asleep", "asleep", "sleep", "no open eyes",
    )),
    ("eyes", ("open",), ("open the eyes", "wake up", "no closed eyes", "not sleeping")),
    ("freckles", ("yes",), ("more freckles", "a lot of freckles", "dots on the cheeks")),
    ("freckles", ("no",), ("fewer freckles", "less freckled", "cleaner skin")),
    ("lipstick", ("yes",), (
        "paint the lips", "make the lips red", "redder lips", "color the lips", "more makeup",
    )),
    ("lipstick", ("no",), ("less makeup", "clean the lips", "paler lips", "less lipstick")),
    ("age", ("young",), (
        "younger", "much younger", "make him younger", "make her younger", "fewer wrinkles",
        "less wrinkled", "remove the wrinkles", "smoother skin", "rejuvenate", "turn back time",
    )),
    ("age", ("young", "middle-aged"), ("a bit younger", "less old", "not so old")),
    ("age", ("old",), (
        "older", "much older", "make him older", "make her older", "more wrinkles",
        "add wrinkles", "let him age", "more wrinkled",
    )),
    ("age", ("middle-aged", "old"), ("a bit older", "less young", "not so young")),
    ("face_width", ("narrow",), (
        "a narrower face", "a thinner face", "slimmer", "thinner", "make the face thinner",
        "lose weight", "less chubby",
    )),
    ("face_width", ("wide",), (
        "a wider face", "a broader face", "chubbier", "fatter", "make the face wider",
        "a rounder face", "gain weight",
    )),
    ("pose", ("left",), ("turn left", "turn the head left", "face left")),
    ("pose", ("right",), ("turn right", "turn the head right", "face right")),
    ("pose", ("front",), ("face the camera", "turn to the front", "face me")),
    ("gaze", ("left",), ("look left", "look to the left", "move the eyes left")),
    ("gaze", ("right",), ("look right", "look to the right", "move the eyes right")),
    ("gaze", ("ahead",), ("look ahead", "look straight ahead", "look at me")),
)  # fmt: skip

# Requests about two things at once.
_DOUBLE: tuple[Request, ...] = (
    ({"beard": frozenset({"no"}), "mustache": frozenset({"no"})}, (
        "clean-shaven", "a clean-shaven face", "no facial hair", "without facial hair",
        "shave the face", "remove all facial hair", "shaved",
    )),
    ({"beard": frozenset({"yes"}), "mustache": frozenset({"yes"})}, (
        "a beard and a mustache", "a full beard with a mustache", "lots of facial hair",
    )),
    ({"beard": frozenset({"no"}), "mustache": frozenset({"yes"})}, (
        "only a mustache", "a mustache but no beard",
    )),
)  # fmt: skip


def requests() -> Iterator[Request]:
    """All requests: for each, the facts that fulfill it, and its texts."""
    for attribute, chosen, texts in _PLAIN:
        yield _facts(attribute, chosen), texts
    yield from _DOUBLE
    for attribute, names in _THINGS.items():
        removals = tuple(text.format(x=bare) for bare, _ in names for text in _REMOVALS)
        additions = tuple(text.format(x=whole) for _, whole in names for text in _ADDITIONS)
        yield _facts(attribute, ("no",)), removals
        yield _facts(attribute, ("yes",)), additions
    for value, colors in HAIR_COLORS.items():
        texts = tuple(text.format(c=color) for color in colors for text in _DYEING)
        yield _facts("hair_color", (value,)), texts
    for value in ATTRIBUTES["eye_color"]:
        yield _facts("eye_color", (value,)), (
            f"make the eyes {value}", f"give them {value} eyes", f"change the eyes to {value}",
        )  # fmt: skip
    for attribute in ("clothes", "background"):
        for value in ATTRIBUTES[attribute]:
            yield _facts(attribute, (value,)), (
                f"make the {attribute} {value}", f"change the {attribute} to {value}",
                f"paint the {attribute} {value}",
            )  # fmt: skip


def _facts(attribute: str, chosen: Sequence[str]) -> dict[str, frozenset[str]]:
    """Values of an attribute, written as in `_PLAIN`, as facts of `with_what_shows_it`."""
    values = frozenset(
        value
        for value in ATTRIBUTES[attribute]
        if value in chosen or any(c[0] == "-" and c[1:] != value for c in chosen)
    )
    return with_what_shows_it(attribute, values)


def with_what_shows_it(attribute: str, values: frozenset[str]) -> dict[str, frozenset[str]]:
    """Values of an attribute as facts, with facts of other attributes that make them visible."""
    facts = {attribute: values}
    if attribute == "hair_color":
        facts["hair_style"] = frozenset(ATTRIBUTES["hair_style"]) - {"bald"}
    if attribute in ("eye_color", "gaze"):
        facts["eyes"] = frozenset({"open"})
    return facts
