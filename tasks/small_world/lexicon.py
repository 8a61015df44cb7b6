"""The words of the small world: plain tables, no logic.

The lists are short on purpose: a model of two million parameters has to master
all of them in minutes. Nouns that follow "a" begin with a consonant, so that no
generator needs to choose between "a" and "an".
"""

# What a review may be about -> the parts of it that a reviewer judges.
REVIEWED = {
  "film": ("plot", "acting", "music", "ending", "cast", "dialogue"),
  "book": ("story", "writing", "hero", "ending", "cover", "humour"),
  "restaurant": ("food", "service", "soup", "wine", "menu", "dessert"),
  "hotel": ("room", "bed", "staff", "breakfast", "pool", "view"),
  "phone": ("screen", "battery", "camera", "sound", "design", "price"),
  "game": ("story", "music", "design", "sound", "humour", "price"),
}

POSITIVE = (
  "good", "great", "superb", "wonderful", "brilliant", "lovely", "excellent",
  "charming", "delightful", "fantastic", "perfect", "amazing", "impressive",
  "beautiful",
)  # fmt: skip
NEGATIVE = (
  "bad", "poor", "dull", "awful", "terrible", "boring", "horrible", "weak",
  "dreadful", "ugly", "annoying", "disappointing", "clumsy", "nasty",
)  # fmt: skip
POSITIVE_VERBS = (
  "love", "like", "enjoy",
)  # fmt: skip
NEGATIVE_VERBS = (
  "hate", "dislike", "regret",
)  # fmt: skip
INTENSIFIERS = ("very", "really", "so", "truly", "quite")
NEGATIONS = ("not", "never", "hardly", "far from", "anything but")

NAMES = (
  "anna", "bruno", "clara", "david", "emma", "felix", "greta", "hugo", "ida",
  "jonas", "karin", "leo",
)  # fmt: skip
PLACES = (
  "kitchen", "garden", "park", "school", "library", "station", "harbour",
  "market",
)  # fmt: skip
JOBS = (
  "doctor", "teacher", "baker", "farmer", "pilot", "singer",
)  # fmt: skip
FOODS = (
  "bread", "cheese", "rice", "fish", "cake", "honey",
)  # fmt: skip
COLOURS = (
  "red", "blue", "green", "yellow", "white", "black",
)  # fmt: skip
PETS = (
  "dog", "cat", "horse", "rabbit", "parrot", "hamster",
)  # fmt: skip
TOWNS = (
  "paris", "london", "rome", "berlin", "madrid", "vienna",
)  # fmt: skip

# Things that act on each other, for paraphrases.
ACTORS = (
  "dog", "cat", "horse", "rabbit", "lion", "tiger", "wolf", "fox", "bear",
  "king", "queen", "doctor",
)  # fmt: skip
# Verb (past and participle are the same) -> a synonym.
TRANSITIVE = {
  "chased": "hunted",
  "helped": "assisted",
  "saw": "noticed",
  "scared": "frightened",
  "followed": "tracked",
  "rescued": "saved",
}
PARTICIPLES = {"saw": "seen"}
# Comparative -> its opposite.
COMPARATIVES = {
  "bigger": "smaller",
  "faster": "slower",
  "older": "younger",
  "stronger": "weaker",
}
OBJECTS = (
  "ball", "key", "hat", "map", "coin", "cup", "letter", "ring",
)  # fmt: skip
TIMES = (
  "in the morning", "in the evening", "at noon", "at night", "on monday",
  "on friday",
)  # fmt: skip
HABITS = (
  "reads", "sings", "paints", "dances", "sleeps",
)  # fmt: skip

# Topic -> who does what to which thing.
TOPICS = {
  "sports": {
    "who": ("goalkeeper", "striker", "runner", "coach", "swimmer"),
    "did": ("won", "lost", "trained for", "warmed up for"),
    "what": ("match", "race", "final", "tournament", "league", "relay"),
  },
  "cooking": {
    "who": ("chef", "cook", "butcher", "waiter", "grandmother"),
    "did": ("fried", "boiled", "chopped", "seasoned"),
    "what": ("onions", "dough", "sauce", "garlic", "beans", "noodles"),
  },
  "science": {
    "who": ("physicist", "astronomer", "chemist", "biologist", "professor"),
    "did": ("measured", "discovered", "analysed", "examined"),
    "what": ("planet", "atom", "cell", "comet", "molecule", "fossil"),
  },
  "music": {
    "who": ("pianist", "drummer", "violinist", "composer", "choir"),
    "did": ("played", "recorded", "rehearsed", "performed"),
    "what": ("song", "symphony", "melody", "opera", "ballad", "waltz"),
  },
  "travel": {
    "who": ("tourist", "traveller", "hiker", "backpacker", "passenger"),
    "did": ("booked", "toured", "explored", "left for"),
    "what": ("island", "cruise", "resort", "flight", "village", "coast"),
  },
}  # fmt: skip

# Kind of thing -> members, and what is true of all of them: enough properties
# for those that were stated of a thing to tell those that never were.
KINDS = {
  "animal": (
    ("lion", "tiger", "wolf", "bear", "goat", "horse"),
    (
      "is a kind of animal", "can breathe", "might bite you", "has two ears",
      "drinks water",
    ),
  ),
  "fruit": (
    ("banana", "lemon", "cherry", "peach", "grape", "melon"),
    (
      "is a kind of fruit", "tastes sweet", "grows on a plant",
      "is full of juice", "can be eaten",
    ),
  ),
  "tool": (
    ("hammer", "chisel", "drill", "shovel", "wrench", "rake"),
    (
      "is a kind of tool", "helps you build", "lies in a workshop",
      "has a handle", "does hard work",
    ),
  ),
  "vehicle": (
    ("car", "bus", "train", "truck", "scooter", "tram"),
    (
      "is a kind of vehicle", "has wheels", "needs a driver", "has an engine",
      "takes you far",
    ),
  ),
  "clothing": (
    ("shirt", "coat", "skirt", "jacket", "scarf", "glove"),
    (
      "is a kind of clothing", "keeps you warm", "is sewn by a tailor",
      "hangs in a wardrobe", "is put on",
    ),
  ),
  "furniture": (
    ("chair", "table", "sofa", "desk", "bed", "shelf"),
    (
      "is a kind of furniture", "furnishes a room", "is made by a carpenter",
      "stands in the office", "is often wooden",
    ),
  ),
  "instrument": (
    ("piano", "violin", "guitar", "flute", "drum", "trumpet"),
    (
      "is a kind of instrument", "makes music", "belongs in a band",
      "plays a tune", "is heard in a concert",
    ),
  ),
  "building": (
    ("house", "castle", "tower", "church", "palace", "barn"),
    (
      "is a kind of building", "has an address", "was built with bricks",
      "has a roof", "costs much rent",
    ),
  ),
}  # fmt: skip
