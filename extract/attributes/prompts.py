"""The questions that CLIP is asked about a picture, as prompts (extract/attributes/by_clip.py).  Data, versioned.

The answers of a question exclude each other. An answer is what the attribute sentence says of it; its prompt is what
CLIP compares the picture with. Prompts say what can be seen ("a person who looks happy"), never what somebody is:
gender, race, age and emotion are guesses from an outward appearance, by a model with known and unequal errors. The
answers on faces are DeepFace's words, which the authors of DWE used, so that sentences made in either way agree;
only age is in groups here and in years there.
"""

from dataclasses import dataclass

VERSION = 1  # raise it whenever a word below changes


@dataclass(frozen=True)
class Question:
    """One question: `prompts` by answer, in the order of their columns."""

    name: str
    prompts: dict[str, str]


SCENE = (
    Question("setting", {"indoors": "a photo taken indoors", "outdoors": "a photo taken outdoors"}),
    Question(
        "place",
        {
            "street": "a photo of a city street or a square",
            "building": "a photo of a building from outside",
            "stage": "a photo of a stage",
            "sports ground": "a photo of a stadium, a sports field or an arena",
            "office": "a photo of an office or a meeting room",
            "hall": "a photo of a lecture hall or a parliament",
            "home": "a photo of a room in a home",
            "studio": "a photo in a studio with a plain background",
            "place of worship": "a photo of a place of worship",
            "vehicle": "a photo of a car, a train, a ship or an aircraft",
            "landscape": "a photo of mountains, fields or a forest",
            "water": "a photo of a sea, a lake or a river",
        },
    ),
    Question(
        "event",
        {
            "portrait": "a person posing for a portrait",
            "sport": "a sports competition",
            "performance": "a concert or a theater performance",
            "speech": "a person giving a speech or an interview",
            "meeting": "people at a meeting or shaking hands",
            "ceremony": "an award ceremony or a red carpet",
            "protest": "a demonstration or a protest",
            "celebration": "a celebration, a parade or a wedding",
            "military": "soldiers or a military operation",
            "disaster": "an accident, a fire or a disaster",
            "nothing": "a picture in which nothing happens",
        },
    ),
    Question("time", {"day": "a photo taken in daylight", "night": "a photo taken at night"}),
    Question(
        "kind",
        {
            "one person": "a photo of one person",
            "group": "a photo of a group of people",
            "crowd": "a photo of a crowd",
            "animal": "a photo of an animal",
            "object": "a photo of an object",
            "view": "a photo of a place without people",
            "artwork": "a painting, a drawing or a sculpture",
            "sign": "a logo, a flag or a coat of arms",
            "map": "a map or a diagram",
            "print": "a poster, a cover or a page of text",
        },
    ),
)

# in the order of the authors' sentence, "gender: G, race: R, age: A, emotion: E"
FACE = (
    Question(
        "gender",
        {
            "Woman": "a photo of a person who looks like a woman",
            "Man": "a photo of a person who looks like a man",
        },
    ),
    Question(
        "race",
        {
            "asian": "a photo of a person of East Asian appearance",
            "indian": "a photo of a person of South Asian appearance",
            "black": "a photo of a person of Black appearance",
            "white": "a photo of a person of White appearance",
            "middle eastern": "a photo of a person of Middle Eastern appearance",
            "latino hispanic": "a photo of a person of Latin American appearance",
        },
    ),
    Question(
        "age",
        {
            "child": "a photo of a child",
            "teenager": "a photo of a teenager",
            "young adult": "a photo of a young adult",
            "middle-aged": "a photo of a middle-aged adult",
            "older adult": "a photo of an older adult",
        },
    ),
    Question(
        "emotion",
        {
            "angry": "a photo of a person who looks angry",
            "disgust": "a photo of a person who looks disgusted",
            "fear": "a photo of a person who looks afraid",
            "happy": "a photo of a person who looks happy",
            "sad": "a photo of a person who looks sad",
            "surprise": "a photo of a person who looks surprised",
            "neutral": "a photo of a person with a neutral expression",
        },
    ),
)
AGE_ENDS = (13, 20, 40, 65)  # the years at which the next group of "age" begins
