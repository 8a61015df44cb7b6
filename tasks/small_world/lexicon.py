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
  "beautiful", "pleasant", "clever", "terrific", "splendid", "outstanding",
  "remarkable", "marvellous", "enjoyable", "magnificent", "stunning",
  "elegant", "memorable", "exciting", "refreshing", "flawless", "thrilling",
  "inspiring", "gorgeous",
)  # fmt: skip
NEGATIVE = (
  "bad", "poor", "dull", "awful", "terrible", "boring", "horrible", "weak",
  "dreadful", "ugly", "annoying", "disappointing", "clumsy", "nasty",
  "tedious", "lousy", "silly", "pathetic", "useless", "miserable", "mediocre",
  "sloppy", "tiresome", "shabby", "hopeless", "dismal", "stale", "shallow",
  "confusing", "ridiculous", "unbearable", "forgettable",
)  # fmt: skip
POSITIVE_VERBS = ("love", "like", "enjoy", "admire", "adore", "cherish")
NEGATIVE_VERBS = ("hate", "dislike", "regret", "despise", "mock", "detest")
INTENSIFIERS = ("very", "really", "so", "truly", "quite")
NEGATIONS = ("not", "never", "hardly", "far from", "anything but")

NAMES = (
  "anna", "bruno", "clara", "david", "emma", "felix", "greta", "hugo", "ida",
  "jonas", "karin", "leo", "maria", "nils", "olga", "peter", "rosa", "simon",
  "tina", "victor", "walter", "paula", "martin", "helena", "oscar", "julia",
  "ralph", "sofia", "tobias", "wanda", "yvonne", "conrad",
)  # fmt: skip
PLACES = (
  "kitchen", "garden", "park", "school", "library", "station", "harbour",
  "market", "museum", "forest", "church", "theatre", "hospital", "office",
  "castle", "stable", "cellar", "bakery", "cinema", "airport",
)  # fmt: skip
JOBS = (
  "doctor", "teacher", "baker", "farmer", "pilot", "singer", "lawyer",
  "nurse", "painter", "sailor", "plumber", "dentist", "soldier", "gardener",
  "tailor", "judge",
)  # fmt: skip
FOODS = (
  "bread", "cheese", "rice", "fish", "cake", "honey", "salad", "pasta",
  "chicken", "chocolate", "porridge", "pancakes", "potatoes", "mushrooms",
  "yoghurt", "cabbage",
)  # fmt: skip
COLOURS = (
  "red", "blue", "green", "yellow", "white", "black", "brown", "pink", "purple",
  "golden", "silver", "grey",
)  # fmt: skip
PETS = (
  "dog", "cat", "horse", "rabbit", "parrot", "hamster", "goat", "turtle",
  "pony", "canary", "lizard", "snake",
)  # fmt: skip
TOWNS = (
  "paris", "london", "rome", "berlin", "madrid", "vienna", "oslo", "dublin",
  "athens", "lisbon", "warsaw", "prague", "moscow", "zurich",
)  # fmt: skip

# Things that act on each other, for paraphrases.
ACTORS = (
  "dog", "cat", "horse", "rabbit", "lion", "tiger", "wolf", "fox", "bear",
  "king", "queen", "doctor", "teacher", "farmer", "pilot", "thief", "guard",
  "child", "giant", "sailor", "knight", "soldier", "wizard", "baker",
  "hunter", "monkey",
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
  "ball", "key", "hat", "map", "coin", "cup", "letter", "ring", "rope",
  "basket", "sword", "lantern", "blanket", "candle", "mirror", "wallet",
)  # fmt: skip
TIMES = (
  "in the morning", "in the evening", "at noon", "at night", "on monday",
  "on friday", "in summer", "in winter",
)  # fmt: skip
HABITS = ("reads", "sings", "paints", "dances", "sleeps", "works", "runs")

# Topic -> who does what to which thing.
TOPICS = {
  "sports": {
    "who": ("goalkeeper", "striker", "runner", "coach", "swimmer",
            "champion", "boxer", "referee", "skier", "team"),
    "did": ("won", "lost", "trained for", "warmed up for", "missed"),
    "what": ("match", "race", "final", "tournament", "league", "relay",
             "marathon", "championship", "medal", "trophy"),
  },
  "cooking": {
    "who": ("chef", "cook", "butcher", "waiter", "grandmother", "host",
            "apprentice", "innkeeper"),
    "did": ("fried", "boiled", "chopped", "seasoned", "roasted"),
    "what": ("onions", "dough", "sauce", "garlic", "beans", "noodles",
             "spinach", "carrots", "pork", "omelette"),
  },
  "science": {
    "who": ("physicist", "astronomer", "chemist", "biologist", "professor",
            "researcher", "geologist", "botanist"),
    "did": ("measured", "discovered", "analysed", "examined", "observed"),
    "what": ("planet", "atom", "cell", "comet", "molecule", "fossil",
             "galaxy", "crystal", "enzyme", "magnet"),
  },
  "music": {
    "who": ("pianist", "drummer", "violinist", "composer", "choir",
            "orchestra", "quartet", "conductor"),
    "did": ("played", "recorded", "rehearsed", "performed", "composed"),
    "what": ("song", "symphony", "melody", "opera", "ballad", "waltz",
             "anthem", "concerto", "sonata", "chorus"),
  },
  "travel": {
    "who": ("tourist", "traveller", "hiker", "backpacker", "passenger",
            "visitor", "explorer", "family"),
    "did": ("booked", "toured", "explored", "left for", "reached"),
    "what": ("island", "cruise", "resort", "flight", "village", "coast",
             "canyon", "ferry", "hostel", "lagoon"),
  },
}  # fmt: skip

# Kind of thing -> members, and two or three ways to say what they share.
KINDS = {
  "animal": (
    (
      "lion",
      "tiger",
      "wolf",
      "bear",
      "goat",
      "horse",
      "rabbit",
      "monkey",
      "giraffe",
      "camel",
      "zebra",
      "squirrel",
    ),
    ("is a kind of animal", "can breathe", "might bite you"),
  ),
  "fruit": (
    (
      "banana",
      "lemon",
      "cherry",
      "peach",
      "grape",
      "melon",
      "plum",
      "pear",
      "mango",
      "strawberry",
      "raspberry",
      "fig",
    ),
    ("is a kind of fruit", "tastes sweet", "grows on a plant"),
  ),
  "tool": (
    (
      "hammer",
      "saw",
      "drill",
      "shovel",
      "wrench",
      "rake",
      "chisel",
      "file",
      "screwdriver",
      "ladder",
      "spanner",
      "spade",
    ),
    ("is a kind of tool", "helps you build", "lies in a workshop"),
  ),
  "vehicle": (
    (
      "car",
      "bus",
      "train",
      "truck",
      "scooter",
      "tram",
      "bicycle",
      "van",
      "taxi",
      "tractor",
      "motorbike",
      "lorry",
    ),
    ("is a kind of vehicle", "has wheels", "needs a driver"),
  ),
  "clothing": (
    (
      "shirt",
      "coat",
      "skirt",
      "jacket",
      "scarf",
      "glove",
      "sock",
      "dress",
      "sweater",
      "blouse",
      "robe",
      "cap",
    ),
    ("is a kind of clothing", "keeps you warm", "is sewn by a tailor"),
  ),
  "furniture": (
    (
      "chair",
      "table",
      "sofa",
      "desk",
      "bed",
      "shelf",
      "bench",
      "stool",
      "wardrobe",
      "cupboard",
      "rocker",
      "bookcase",
    ),
    ("is a kind of furniture", "furnishes a room", "is made by a carpenter"),
  ),
  "instrument": (
    (
      "piano",
      "violin",
      "guitar",
      "flute",
      "drum",
      "trumpet",
      "harp",
      "cello",
      "clarinet",
      "trombone",
      "banjo",
      "saxophone",
    ),
    ("is a kind of instrument", "makes music", "belongs in a band"),
  ),
  "building": (
    (
      "house",
      "castle",
      "tower",
      "church",
      "school",
      "barn",
      "palace",
      "hut",
      "cottage",
      "mansion",
      "warehouse",
      "skyscraper",
    ),
    ("is a kind of building", "has an address", "was built with bricks"),
  ),
  "drink": (
    (
      "milk",
      "coffee",
      "juice",
      "lemonade",
      "cider",
      "beer",
      "water",
      "brandy",
      "cocoa",
      "punch",
    ),
    ("is a kind of drink", "is poured from a bottle", "quenches your thirst"),
  ),
  "flower": (
    (
      "rose",
      "tulip",
      "daisy",
      "lily",
      "violet",
      "poppy",
      "sunflower",
      "marigold",
      "dandelion",
      "lavender",
    ),
    ("is a kind of flower", "smells nice in a vase", "has petals"),
  ),
}
