"""Rarer ways to say what a portrait shows, so that CLIP also knows the words of everyday speech.

`captions` uses plain words for most things. This module adds synonyms, comparisons ("as white as a
sheet"), idioms, and names of things that look alike in a portrait (a fedora is a hat). Many of them
are synonyms and hyponyms of the plain words in WordNet, without those that have another meaning.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Rare:
    """Texts about one value, grouped by the way in which they fit into a sentence.

    Attributes:
        states: adjectives and participles, as in "the person is ...".
        things: nouns, with an article if they need one, as in "the person has ...".
        phrases: texts that are used unchanged.
    """

    states: tuple[str, ...] = ()
    things: tuple[str, ...] = ()
    phrases: tuple[str, ...] = ()

    def say(self, rng: random.Random) -> str:
        """A random text, in a sentence or alone."""
        kinds = [(words, frames) for words, frames in (
            (self.states, _OF_STATES), (self.things, _OF_THINGS), (self.phrases, ("{x}",)),
        ) if words]  # fmt: skip
        weights = [len(words) for words, _ in kinds]
        words, frames = rng.choices(kinds, weights)[0]
        text = rng.choice(words)
        return rng.choice(frames).format(x=text) if rng.random() < _FRAMED else text


_FRAMED = 0.6  # share of texts in a sentence
_OF_STATES = (
    "looking {x}", "he looks {x}", "she looks {x}", "make him {x}", "make her {x}",
    "make them look {x}", "he is {x}", "she is {x}", "a {x} person", "a {x} face",
    "let her look {x}", "he should look {x}", "more {x}", "a {x} look", "I want her {x}",
    "someone {x}", "really {x}", "very {x}",
)  # fmt: skip
_OF_THINGS = (
    "with {x}", "give him {x}", "give her {x}", "a person with {x}", "a face with {x}",
    "she has {x}", "he has {x}", "add {x}", "I want {x}", "let him have {x}", "can she have {x}",
    "someone with {x}", "{x} please", "get {x}",
)  # fmt: skip


def _hair(*colors: str, things: tuple[str, ...] = (), phrases: tuple[str, ...] = ()) -> Rare:
    """The texts about a hair color, given its names as adjectives."""
    of_hair = tuple(f"{color} hair" for color in colors)
    return Rare((), of_hair + things, phrases)


RARE: Mapping[tuple[str, str], Rare] = {
    ("hair_style", "bald"): Rare(
        ("hairless", "clean-headed", "baldheaded", "completely bald", "bald as an egg",
         "bald as a billiard ball", "smooth-headed"),
        ("a shiny head", "a smooth head", "a bald pate", "a polished head", "a shaven head",
         "a naked scalp", "an egg-shaped bald head", "a skinhead", "a bald spot everywhere"),
        ("all hair gone", "shave it all off", "lost all his hair", "not a single hair",
         "get rid of the hair", "hair loss", "as bald as a coot", "the hair fell out"),
    ),
    ("hair_style", "short"): Rare(
        ("close-cropped", "short-cropped", "neatly trimmed"),
        ("a crew cut", "a buzz cut", "a crop", "a boyish haircut", "a military haircut",
         "a neat short cut", "a short back and sides", "closely cropped hair", "tidy short hair",
         "a fade", "a short trim", "a businesslike haircut"),
        ("fresh from the barber", "cut it short", "a haircut, quite short", "trim it"),
    ),
    ("hair_style", "spiky"): Rare(
        ("spiked", "hedgehog-haired"),
        ("spiked-up hair", "hair like a hedgehog", "hair standing up", "hair on end",
         "gelled spikes", "hair full of gel", "bristling hair", "porcupine hair", "anime hair",
         "pointy hair", "an electric shock hairdo", "tousled spikes", "rocker hair"),
        ("hair sticking up", "as if struck by lightning", "hair sticking out in all directions",
         "his hair stands on end", "a bad hair day"),
    ),
    ("hair_style", "mohawk"): Rare(
        (),
        ("a mohican", "a punk hairstyle", "a crest of hair", "an Iroquois haircut",
         "a strip of hair",
         "a roach", "a punk rocker's hair", "a cockscomb", "shaved sides and a crest",
         "a punk haircut", "hair like a rooster"),
        ("like a punk", "punk rock hair", "shave only the sides", "a row of hair in the middle"),
    ),
    ("hair_style", "bob"): Rare(
        (),
        ("a pageboy cut", "a pageboy", "a chin-length cut", "a short bob with bangs",
         "a bowl cut", "hair to the chin", "a flapper haircut", "a twenties haircut",
         "a Cleopatra haircut", "hair cut at the jaw", "a straight bob", "medium-length hair",
         "hair down to the chin"),
        ("cut it to the chin", "like in the twenties", "hair that ends at the chin"),
    ),
    ("hair_style", "long"): Rare(
        (),
        ("a mane", "flowing locks", "a long mane", "hair down to the shoulders",
         "waist-length hair",
         "hair down the back", "mermaid hair", "Rapunzel hair", "a hippie's hair",
         "shoulder-length hair", "straight long locks", "hair that reaches the chest",
         "very long straight hair", "a veil of hair", "hair extensions"),
        ("like Rapunzel", "let it hang down", "hair falling over the shoulders",
         "has not seen a hairdresser for years", "a rock star's long hair"),
    ),
    ("hair_style", "curly"): Rare(
        ("curly-headed", "ringleted"),
        ("ringlets", "a perm", "permed hair", "wavy locks", "corkscrew curls", "a curly head",
         "a mop of curls", "tight curls", "soft waves", "coils", "curly locks",
         "a tangle of curls", "crimped hair", "a wavy hairdo"),
        ("put it in curlers", "use the curling iron", "curls everywhere", "lots of curls",
         "make it wavy"),
    ),
    ("hair_style", "afro"): Rare(
        (),
        ("a seventies hairdo", "a huge afro", "a disco hairdo", "big round hair", "a ball of hair",
         "a fro", "a giant round hairdo", "a funky afro", "microphone hair", "a huge hairdo",
         "hair like a cloud", "very big hair", "a puffy round hairdo", "a natural afro"),
        ("disco time", "back to the seventies", "like a funk singer",
         "as big as possible, the hair"),
    ),
    ("hair_color", "black"): _hair(
        "coal-black", "inky", "midnight-black", "black as night", "raven", "onyx", "jet",
        "black as coal", "very dark", "sable",
        things=("hair the color of coal", "hair as black as night", "hair like a raven"),
        phrases=("dye it black", "black as ink, the hair", "black-haired like Snow White"),
    ),
    ("hair_color", "brown"): _hair(
        "mousy brown", "coffee-colored", "nut-brown", "chocolate", "light brown", "dark brown",
        "tawny", "mahogany", "walnut", "cocoa", "hazel", "caramel-brown", "brownish", "umber",
        things=("hair like chocolate", "hair the color of chestnuts", "a brown mane"),
        phrases=("dye it brown", "become a brunette", "turn into a brunette"),
    ),
    ("hair_color", "blonde"): _hair(
        "sandy", "straw-colored", "wheat-colored", "platinum-blonde", "towheaded", "honey",
        "golden-blonde", "dirty-blonde", "ash-blonde", "sun-bleached", "light blonde", "buttery",
        "corn-colored", "bleached",
        things=("golden locks", "hair like gold", "hair the color of straw", "hair like the sun",
                "sunny hair"),
        phrases=("go blonde", "a blondie", "like Goldilocks", "dye it blonde", "a surfer's hair"),
    ),
    ("hair_color", "red"): _hair(
        "reddish", "flaming", "fiery", "auburn", "rust-colored", "rusty", "foxy", "titian",
        "flame-red", "burnt-orange", "tomato-red", "copper-colored", "scarlet", "henna-dyed",
        things=("hair like fire", "hair the color of carrots", "hair like a fox", "a red mop"),
        phrases=("ginger-haired", "go ginger", "a carrottop", "dye it red", "on fire, the hair",
                 "like Pippi Longstocking"),
    ),
    ("hair_color", "grey"): _hair(
        "salt-and-pepper", "steel-grey", "silvery", "grizzled", "greyish", "iron-grey",
        "mouse-grey", "gunmetal", "silver-grey", "smoky", "graying",
        things=("hair the color of ash", "hair like steel", "silver strands"),
        phrases=("going grey", "grey-headed", "has gone grey", "dye it grey"),
    ),
    ("hair_color", "white"): _hair(
        "snowy", "white as snow", "chalk-white", "ivory", "frosty", "bone-white", "pure white",
        "cotton-white", "milky", "albino",
        things=("hair like snow", "hair like cotton", "hair the color of milk"),
        phrases=("white-haired", "gone white overnight", "dye it white", "like Santa, the hair"),
    ),
    ("hair_color", "purple"): _hair(
        "plum-colored", "mauve", "aubergine", "grape-colored", "magenta-purple", "amethyst",
        "lilac-colored", "purplish", "indigo-violet", "eggplant",
        things=("hair the color of grapes", "hair like lavender", "hair like a plum"),
        phrases=("dye it purple", "purple all over, the hair"),
    ),
    ("hair_color", "pink"): _hair(
        "bubblegum", "bubblegum-pink", "candy-colored", "cotton-candy", "salmon-pink", "fuchsia",
        "neon-pink", "pastel pink", "rosy", "rose-colored", "flamingo", "candy-pink", "barbie-pink",
        things=("hair like candy floss", "hair the color of flamingos", "hair like a rose"),
        phrases=("dye it pink", "pink like bubblegum, the hair"),
    ),
    ("hair_color", "green"): _hair(
        "grass-green", "mossy", "moss-green", "mint-green", "leafy", "seaweed-green", "neon-green",
        "bottle-green", "olive-green", "poison-green", "toxic-green", "forest-green", "frog-green",
        things=("hair the color of grass", "hair like moss", "hair like seaweed",
                "hair the color of leaves"),
        phrases=("dye it green", "like a goblin, green hair", "like the Joker's hair"),
    ),
    ("skin", "light"): Rare(
        ("pale as a ghost", "fair", "white as a sheet", "pallid", "pasty", "porcelain-skinned",
         "milky-skinned", "wan", "lily-white", "whiter"),
        ("porcelain skin", "ivory skin", "milky skin", "a pallid complexion", "white skin",
         "very pale skin", "snow-white skin", "a fair complexion", "ghostly pale skin"),
        ("never seen the sun", "pale like a vampire", "as white as chalk, the skin", "much paler"),
    ),
    ("skin", "medium"): Rare(
        ("suntanned", "sunburnt", "bronzed", "sun-kissed", "tan", "golden-skinned"),
        ("a suntan", "bronze skin", "golden skin", "sun-kissed skin", "a holiday tan",
         "caramel skin", "beige skin", "a warm complexion", "a tan"),
        ("back from the beach", "just back from holiday", "a bit of sun", "get some tan"),
    ),
    ("skin", "dark"): Rare(
        ("black-skinned", "ebony-skinned", "dusky", "swarthy", "brown-skinned",
         "dark-complexioned"),
        ("ebony skin", "black skin", "deep brown skin", "skin like ebony", "chocolate skin",
         "very dark skin", "a dusky complexion", "rich dark skin", "mahogany skin", "brown skin"),
        ("as dark as ebony", "African skin", "much darker, the skin"),
    ),
    ("beard", "no"): Rare(
        ("smooth-chinned", "freshly shaven", "unbearded"),
        ("a smooth chin", "a bare chin", "a naked chin"),
        ("off with the beard", "get rid of the beard", "lose the beard", "shave it off",
         "time to shave the beard", "beard be gone", "cut the beard off", "the beard has to go",
         "beard off", "minus the beard"),
    ),
    ("beard", "yes"): Rare(
        ("bewhiskered", "unshaven", "hairy-chinned"),
        ("a goatee", "a hipster beard", "whiskers", "stubble", "a thick beard", "a big beard",
         "a chin beard", "a lumberjack beard", "a hairy face", "sideburns and a beard",
         "a pirate's beard", "a wizard's beard", "a long beard"),
        ("let the beard grow", "grow a beard", "did not shave for weeks", "like a lumberjack",
         "like a Viking", "stop shaving", "beard on"),
    ),
    ("mustache", "no"): Rare(
        ("smooth-lipped",),
        ("a smooth upper lip", "a naked upper lip"),
        ("off with the mustache", "get rid of the mustache", "lose the mustache",
         "the moustache has to go", "moustache off", "minus the mustache", "mustache be gone"),
    ),
    ("mustache", "yes"): Rare(
        ("mustachioed", "moustached"),
        ("a handlebar mustache", "a walrus moustache", "a tache", "a pencil mustache", "a stache",
         "a big moustache", "a thick mustache", "a gentleman's moustache", "a lip beard"),
        ("like a walrus", "like Poirot", "something hairy under the nose", "mustache on",
         "let the moustache grow", "hair under the nose"),
    ),
    ("glasses", "no"): Rare(
        ("unbespectacled",),
        ("contact lenses", "uncovered eyes"),
        ("lose the glasses", "get rid of the glasses", "glasses off", "contact lenses instead",
         "no longer wearing glasses", "without his glasses on", "the glasses have to go",
         "minus the glasses", "forgot the glasses", "can see without glasses"),
    ),
    ("glasses", "yes"): Rare(
        ("four-eyed", "short-sighted", "nerdy-looking"),
        ("bifocals", "eyewear", "horn-rimmed glasses", "sunglasses", "goggles", "round glasses",
         "nerd glasses", "a pair of frames", "thick glasses", "a monocle", "eye glasses", "shades",
         "black-rimmed glasses", "lenses before the eyes", "a pince-nez"),
        ("glasses on", "like a librarian", "like a professor with glasses", "needs glasses",
         "cannot see well, so glasses", "put some spectacles on his nose", "like Harry Potter"),
    ),
    ("hat", "no"): Rare(
        ("hatless", "bare-headed", "capless"),
        ("a bare head", "nothing on the head", "an uncovered head"),
        ("lose the hat", "get rid of the hat", "hat off", "hats off", "the hat has to go",
         "minus the hat", "take that hat away", "uncover the head", "off with the hat",
         "hat be gone", "show what is under the hat"),
    ),
    ("hat", "yes"): Rare(
        ("hatted", "capped"),
        ("a fedora", "a bonnet", "a woolly hat", "a ski cap", "a bowler", "a sun hat", "a toque",
         "a sombrero", "a cowboy hat", "a top hat", "a baseball cap", "a beret", "a turban",
         "a warm hat", "a head covering", "a hood", "a helmet", "a bobble cap", "a straw hat",
         "a tuque", "something on the head", "a nightcap"),
        ("hat on", "it is cold, put a hat on", "cover the head", "dressed for winter, with a hat",
         "wearing something on the head", "cover up that head", "in a beanie"),
    ),
    ("earrings", "no"): Rare(
        (),
        ("unadorned ears", "naked ears", "ears without anything"),
        ("lose the earrings", "get rid of the earrings", "take the earrings out", "earrings off",
         "minus the earrings", "the earrings have to go", "no rings in the ears"),
    ),
    ("earrings", "yes"): Rare(
        ("bejeweled",),
        ("ear rings", "golden hoops", "ear jewelry", "studs", "pendants at the ears",
         "pierced ears", "gold in the ears", "big earrings", "creoles", "gold earrings",
         "dangling earrings", "gold on the ears", "ear decorations", "bling"),
        ("like a pirate with an earring", "hang gold on the ears", "dress up the ears",
         "earrings on", "put jewelry on her ears", "something shiny at the ears"),
    ),
    ("expression", "neutral"): Rare(
        ("unmoved", "indifferent", "poker-faced", "bored", "emotionless", "impassive", "stoic",
         "collected", "even-tempered", "unemotional", "placid", "tranquil", "peaceful", "stern",
         "earnest", "unimpressed", "deadpan", "apathetic", "sober"),
        ("a poker face", "no expression", "an empty look", "a plain expression", "a deadpan face",
         "a passport photo face", "a serious look", "a stony face", "a resting face"),
        ("keep a straight face", "show no feelings", "chill", "without any emotion",
         "as in a passport", "settle down", "take it easy", "like a robot, no emotion"),
    ),
    ("expression", "smiling"): Rare(
        ("glad", "delighted", "jolly", "gleeful", "beaming", "laughing", "overjoyed", "pleased",
         "in a good mood", "content", "radiant", "blissful", "amused", "elated", "ecstatic",
         "thrilled", "sunny", "jovial", "optimistic", "upbeat", "good-humored", "satisfied",
         "cheery", "delirious with joy", "nice", "kind", "welcoming"),
        ("a laugh", "a broad smile", "a beaming face", "a wide grin", "a toothy grin",
         "smiley lips",
         "the corners of the mouth up", "a good mood", "a warm smile", "dimples", "a smirk",
         "a charming smile", "a happy look"),
        ("smile please", "give us a smile", "full of joy", "laughing out loud", "over the moon",
         "on cloud nine", "won the lottery", "show your teeth", "lighten up", "having fun",
         "turn the frown into a smile", "put a smile on that face", "having a great day",
         "brighten up", "like a happy child", "be nice", "grin"),
    ),
    ("expression", "sad"): Rare(
        ("tearful", "downcast", "heartbroken", "dejected", "blue and unhappy", "weeping", "crying",
         "upset", "down", "mournful", "disappointed", "hurt", "grieving", "glum", "woeful",
         "doleful", "despondent", "sorry", "low-spirited", "crestfallen", "in tears", "lonely",
         "dismal", "distressed", "wistful", "brokenhearted", "desperate"),
        ("a long face", "tears in the eyes", "the corners of the mouth down", "a broken heart",
         "a pout", "a sulk", "the blues", "a tearful look", "a sorrowful look", "sorrow"),
        ("about to cry", "close to tears", "has lost a friend", "down in the dumps", "cry",
         "having a bad day", "make her weep", "burst into tears", "make him cry", "feeling blue",
         "feeling down", "after a funeral"),
    ),
    ("expression", "angry"): Rare(
        ("fuming", "raging", "livid", "irate", "mad as hell", "outraged", "infuriated", "hostile",
         "wrathful", "grouchy", "ill-tempered", "seething", "indignant", "cranky", "incensed",
         "bad-tempered", "evil", "mean", "aggressive", "fierce", "hot-headed", "boiling with rage",
         "pissed off", "threatening", "bitter", "sullen", "resentful", "stormy", "vicious"),
        ("a scowl", "a glare", "a grim look", "a face like thunder", "rage in the eyes", "a temper",
         "knitted brows", "an evil look", "a fierce look", "a bad temper", "fury", "a mean look",
         "a grimace of rage"),
        ("full of rage", "about to explode", "seeing red", "in a rage", "beside himself with anger",
         "like an angry boss", "lose the temper", "hopping mad", "in a bad mood",
         "gritting his teeth",
         "make him furious", "like a villain"),
    ),
    ("expression", "surprised"): Rare(
        ("flabbergasted", "dumbfounded", "astounded", "speechless", "awestruck", "taken aback",
         "open-mouthed", "thunderstruck", "bewildered", "agape", "aghast", "wide-eyed with wonder",
         "amazed at something", "gobsmacked", "scared", "frightened", "terrified", "alarmed",
         "gaping", "dazed", "spooked", "horrified"),
        ("a gaping mouth", "a dropped jaw", "a round mouth", "an O-shaped mouth", "a jaw drop",
         "raised eyebrows and an open mouth", "a look of amazement", "a look of shock",
         "a shock on the face", "the jaw hanging", "an open-mouthed stare"),
        ("saying oh", "saying wow", "as if he saw a ghost", "the jaw drops", "did not expect that",
         "wow", "say oh", "what a surprise", "caught off guard", "screaming", "shouting", "singing",
         "yawning"),
    ),
    ("eyes", "open"): Rare(
        ("alert", "awake again"),
        ("eyes wide open", "opened eyes", "an alert look"),
        ("wide awake", "eyes open", "wake him up", "no more sleeping", "stay awake", "woken up"),
    ),
    ("eyes", "closed"): Rare(
        ("snoozing", "dozing", "napping", "slumbering", "fast asleep", "sound asleep", "drowsy",
         "meditating", "sleepy", "dreaming"),
        ("lowered eyelids", "lids down", "eyelids shut", "a nap", "closed lids", "shut lids"),
        ("taking a nap", "eyes shut", "in a deep sleep", "blinking", "send her to sleep",
         "with the eyes closed", "good night", "let him dream", "do not look", "tired, eyes shut"),
    ),
    ("eye_color", "brown"): Rare(
        (), ("hazel eyes", "chocolate eyes", "chestnut eyes", "eyes like coffee", "nut-brown eyes",
             "deer eyes", "dark brown eyes", "puppy eyes, brown"),
    ),
    ("eye_color", "blue"): Rare(
        (), ("sky-blue eyes", "azure eyes", "eyes like the ocean", "baby blue eyes",
             "icy blue eyes",
             "eyes as blue as the sky", "sapphire eyes", "sea-blue eyes", "cornflower-blue eyes"),
    ),
    ("eye_color", "green"): Rare(
        (), ("emerald eyes", "cat eyes", "eyes like emeralds", "jade eyes", "grass-green eyes",
             "eyes as green as grass", "mossy eyes", "sea-green eyes"),
    ),
    ("eye_color", "grey"): Rare(
        (), ("steel-grey eyes", "silver eyes", "smoky eyes", "stormy grey eyes", "pale grey eyes",
             "eyes the color of steel", "slate-colored eyes", "eyes like ash"),
    ),
    ("lipstick", "no"): Rare(
        (), ("bare lips", "pale natural lips", "plain lips", "unmade-up lips"),
        ("wipe the lipstick off", "lose the lipstick", "lipstick off", "get rid of the lipstick",
         "without any lipstick on", "minus the lipstick", "wash the lips", "no paint on the lips"),
    ),
    ("lipstick", "yes"): Rare(
        ("made-up", "red-lipped"),
        ("scarlet lips", "cherry lips", "ruby lips", "rouge", "crimson lips", "bright red lips",
         "lip color", "lip gloss", "glossy lips", "lips like cherries", "glamorous lips",
         "Hollywood lips", "lip paint"),
        ("make her up", "ready for a party, with lipstick", "lipstick on", "paint her lips red",
         "put on makeup", "made up for the evening", "put some color on the lips"),
    ),
    ("freckles", "no"): Rare(
        ("spotless", "unblemished"),
        ("even skin", "spotless skin", "flawless skin", "unspotted cheeks"),
        ("lose the freckles", "get rid of the freckles", "freckles off", "remove the spots",
         "remove all dots from the skin", "clear up the skin", "minus the freckles"),
    ),
    ("freckles", "yes"): Rare(
        ("speckled", "spotted", "dotted", "freckly", "spotty"),
        ("spots on the face", "sun spots", "little dots on the nose", "speckles",
         "sprinkled cheeks",
         "a sprinkle of freckles", "freckles all over", "dots all over the face", "moles",
         "tiny brown spots", "cinnamon dots"),
        ("sprinkle freckles over the nose", "freckles on", "dot the cheeks",
         "like a kid in summer, with freckles", "spots on cheeks and nose"),
    ),
    ("age", "young"): Rare(
        ("childlike", "boyish", "girlish", "teenage", "adolescent", "twenty", "in his twenties",
         "fresh-faced", "baby-faced", "as young as a student", "rejuvenated"),
        ("a baby face", "smooth skin", "a childish face", "a teenager's face", "no lines",
         "no crow's feet", "baby skin", "a fresh young face", "a facelift"),
        ("a teenager", "a student", "a kid", "ten years younger", "take off twenty years",
         "forever young", "iron out the wrinkles", "back to school age", "in her twenties",
         "the fountain of youth", "botox", "like a child"),
    ),
    ("age", "middle-aged"): Rare(
        ("fortyish", "in his forties", "mature", "grown-up", "forty-five", "in her forties"),
        ("first wrinkles", "a mature face", "slight wrinkles", "a few lines in the face",
         "some crow's feet"),
        ("a grown-up", "somewhere in the forties", "in the middle of life", "a bit wrinkled",
         "a midlife face"),
    ),
    ("age", "old"): Rare(
        ("aging", "ageing", "geriatric", "grandfatherly", "grandmotherly", "seventy", "eighty",
         "in his seventies", "wizened", "lined", "furrowed", "very old", "centenarian", "hoary",
         "weathered", "retired"),
        ("crow's feet", "a lined face", "furrows", "creases", "a wrinkly face", "a weathered face",
         "many lines in the face", "a furrowed brow", "wrinkles everywhere",
         "lines on the forehead",
         "sagging skin"),
        ("a grandfather", "a grandmother", "a grandma", "a granny", "a grandpa", "an old man",
         "an old lady", "turn him into a grandfather", "thirty years older", "as a pensioner",
         "an ancient person", "long past retirement", "in her eighties", "add fifty years",
         "like a wise old man"),
    ),
    ("face_width", "narrow"): Rare(
        ("skinny", "gaunt", "lean", "slender", "bony", "hollow-cheeked", "slimmer", "thin"),
        ("hollow cheeks", "a skinny face", "a lean face", "a gaunt face", "a long thin face",
         "sunken cheeks", "a bony face", "a slim head"),
        ("lose some pounds", "on a diet", "slim the face down", "make the head narrower"),
    ),
    ("face_width", "average"): Rare((), ("a face of normal width", "a medium face")),
    ("face_width", "wide"): Rare(
        ("chubby", "plump", "fat", "chubby-cheeked", "overweight", "podgy", "round-faced", "stout",
         "well-fed", "obese", "moon-faced"),
        ("chubby cheeks", "full cheeks", "a moon face", "a fat face", "a big head", "a double chin",
         "round cheeks", "hamster cheeks", "a broad head", "a fleshy face"),
        ("put on weight", "eat more", "fatten him up", "widen the face", "ate too much"),
    ),
    ("pose", "left"): Rare(
        (), ("the nose pointing left",),
        ("turn your head to the left", "head to the left", "rotate the head left",
         "look round to the left",
         "from the left side", "swivel left"),
    ),
    ("pose", "right"): Rare(
        (), ("the nose pointing right",),
        ("turn your head to the right", "head to the right", "rotate the head right",
         "look round to the right", "from the right side", "swivel right"),
    ),
    ("pose", "front"): Rare(
        (), ("a frontal view", "the head facing us"),
        ("en face", "face us", "straight on", "turn back to the camera", "head straight ahead"),
    ),
    ("gaze", "left"): Rare(
        (), ("a glance to the left",),
        ("look over to the left", "eyes to the left", "peek left", "watch something on the left",
         "peering left"),
    ),
    ("gaze", "right"): Rare(
        (), ("a glance to the right",),
        ("look over to the right", "eyes to the right", "peek right",
         "watch something on the right", "peering right"),
    ),
    ("gaze", "ahead"): Rare(
        (), ("a direct look", "eye contact", "a direct gaze"),
        ("look me in the eye", "eyes front", "stare at the camera", "looking at us",
         "keep eye contact"),
    ),
    ("background", "blue"): Rare(
        (), ("a sky-blue background", "a navy background", "blue behind", "a blue sky behind",
             "a turquoise backdrop", "a blue scene"),
    ),
    ("background", "green"): Rare(
        (), ("a meadow-green background", "green behind", "a green screen", "a grassy backdrop",
             "a mint-colored wall", "a green scene"),
    ),
    ("background", "yellow"): Rare(
        (), ("a golden background", "yellow behind", "a sunny backdrop", "a lemon-colored wall",
             "a yellow scene", "a sand-colored background"),
    ),
    ("background", "pink"): Rare(
        (), ("a rosy background", "pink behind", "a salmon-colored wall", "a rose backdrop",
             "a pink scene"),
    ),
    ("background", "purple"): Rare(
        (), ("a lilac background", "purple behind", "a lavender wall", "a mauve backdrop",
             "a purple scene"),
    ),
    ("background", "grey"): Rare(
        (), ("a silver background", "grey behind", "a concrete wall behind", "a foggy backdrop",
             "a dull background", "a gray scene"),
    ),
    ("clothes", "red"): Rare(
        (), ("a scarlet jumper", "a crimson blouse", "a cherry-red sweatshirt", "a ruby-red hoodie",
             "a tomato-red jersey", "red clothing", "a red jacket"),
    ),
    ("clothes", "blue"): Rare(
        (), ("a navy jumper", "a denim shirt", "a sky-blue blouse", "a blue hoodie",
             "blue clothing",
             "an azure sweatshirt", "a blue jacket"),
    ),
    ("clothes", "green"): Rare(
        (), ("an olive jumper", "an emerald blouse", "a green hoodie", "green clothing",
             "a mint sweatshirt", "a green jacket"),
    ),
    ("clothes", "yellow"): Rare(
        (), ("a lemon-yellow jumper", "a mustard sweater", "a golden blouse", "a yellow hoodie",
             "yellow clothing", "a canary-yellow sweatshirt", "a sunflower-yellow top"),
    ),
    ("clothes", "purple"): Rare(
        (), ("a lilac jumper", "a plum-colored blouse", "a purple hoodie", "purple clothing",
             "a mauve sweatshirt", "a violet jacket"),
    ),
    ("clothes", "black"): Rare(
        (), ("a coal-black jumper", "a black hoodie", "black clothing", "a black suit",
             "a dark turtleneck", "a black jacket"),
    ),
    ("clothes", "white"): Rare(
        (), ("a snow-white jumper", "a cream blouse", "a white hoodie", "white clothing",
             "an ivory sweatshirt", "a white coat"),
    ),
}  # fmt: skip
