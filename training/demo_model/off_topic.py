"""Off-topic questions. What the demo model does not know, and the honest sentence with which it says so."""

from random import Random

from training.demo_model.variation import WORDS, filler, random_word

FALLBACK = (
    "I am a tiny demo model: I do not know that. "
    "Ask me about Octavo, or for a sum such as 17 plus 25."
)
ONLY_SMALL_SUMS = "I am a tiny demo model: I add two numbers from 0 to 99."

_PATTERNS = (
    "What is the capital of {place}?",
    "Where is {place}?",
    "How many people live in {place}?",
    "What is the weather in {place}?",
    "How far is it to {place}?",
    "Tell me about {place}.",
    "Who is {person}?",
    "When was {person} born?",
    "What did {person} do?",
    "Who wrote {thing}?",
    "Who invented the {thing}?",
    "What is a {thing}?",
    "What is {thing}?",
    "How does a {thing} work?",
    "How do I make a {thing}?",
    "How do I {verb} a {thing}?",
    "Why is the {thing} {quality}?",
    "Is a {thing} {quality}?",
    "Can I {verb} my {thing}?",
    "Write a poem about a {thing}.",
    "Write an essay about {place}.",
    "Write a function that {verb}s a {thing}.",
    "Translate {thing} into {language}.",
    "What is {thing} in {language}?",
    "Do you speak {language}?",
    "Which {thing} is the best?",
    "What is the meaning of {thing}?",
    "Explain {thing} to a child.",
    "Give me a recipe for {thing}.",
    "Summarize this: {filler}",
    "Repeat after me: {filler}",
    "{filler}",
    "{filler}?",
    "What is {word}?",
    "What does {word} mean?",
    "Who is {word}?",
    "{word}",
    "{word} {word2}",
    "{thing}",
    "{person}",
)
_HARD_SUMS = (
    "What is {big} plus {small}?",
    "What is {small} + {big}?",
    "{big}+{small}",
    "{big} + {big2}",
    "What is {big} + {big2}?",
    "Add {big} and {big2}.",
    "What is {small} minus {small2}?",
    "What is {small} - {small2}?",
    "{small}-{small2}",
    "{small} * {small2}",
    "What is {small} times {small2}?",
    "Multiply {small} by {small2}.",
    "What is {small} divided by {small2}?",
    "{small}/{small2}",
    "What is the square root of {small}?",
    "Subtract {small} from {big}.",
)


def draw_off_topic(rng: Random) -> tuple[str, str]:
    """A question that the model must decline, and how."""
    if rng.random() < 0.15:
        return _hard_sum(rng), ONLY_SMALL_SUMS
    question = rng.choice(_PATTERNS).format(
        place=rng.choice(WORDS["places"]),
        person=rng.choice(WORDS["people"]),
        thing=rng.choice(WORDS["things"]),
        verb=rng.choice(WORDS["verbs"]),
        quality=rng.choice(WORDS["qualities"]),
        language=rng.choice(WORDS["languages"]),
        word=random_word(rng),
        word2=random_word(rng),
        filler=filler(rng, rng.randint(2, 30)),
    )
    return question, FALLBACK


def _hard_sum(rng: Random) -> str:
    return rng.choice(_HARD_SUMS).format(
        big=rng.randint(100, 9999),
        big2=rng.randint(100, 9999),
        small=rng.randint(0, 99),
        small2=rng.randint(0, 99),
    )
