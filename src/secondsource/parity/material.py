"""What the probes are made of: our own sentences, in several languages and on several subjects, and code.

Frames have one gap, fillers go into it, so that a few dozen of each make hundreds of different probes.
"""

WORDS = ("The", "In", "She", "When", "It", "We", "For", "If", "On", "He", "This", "But", "They", "After", "You", "As")
OPENINGS = (
    "Water boils at",
    "The oldest map in the archive shows",
    "If the two lists differ, the program",
    "Once the storm had passed, the harbour master walked down to the quay and",
    "There are three reasons why bridges fail. The first is",
    "Dear Ms Okafor, thank you for your letter about the broken pump. We have",
    "The capital of Norway is Oslo, the capital of Kenya is Nairobi, and the capital of Peru is",
    "A glacier is a large body of ice that forms where snow collects over many years. As it grows heavier, it",
    "To bake a simple loaf of bread you need flour, water, salt and yeast. Begin by mixing the flour with",
    "Chapter 1. My grandfather kept bees. Every morning before sunrise he put on his veil and",
    "Q: Why is the sky blue?\nA:",
    "Minutes of the meeting of 4 March. Present: the treasurer, the secretary, four members. The treasurer reported",
    "one two three four five six seven eight nine ten eleven",
    "The human heart has four chambers. Blood enters the right atrium from the body, passes into",
    "When a supplier fails to deliver, a careful buyer already has",
    "The train left Lisbon at nine in the evening. By midnight most passengers were asleep, but in the last carriage",
)
SECOND_SENTENCES = (
    "",
    " Nobody had expected that.",
    " This was written in a hurry on a Tuesday.",
    " According to the manual, the next step is the important one:",
    " Still, the numbers told another story.",
)
CODE_OPENINGS = (
    "def {}(values):\n    total = 0\n    for value in values:\n        ",
    "#include <stdio.h>\n\nint {}(int n) {{\n    if (n < 2) {{\n        return ",
    "function {}(items) {{\n  const seen = new Set();\n  return items.filter((item) => ",
    "SELECT supplier, COUNT(*) AS {}\nFROM orders\nWHERE ",
    "fn {}(input: &str) -> Option<u32> {{\n    let trimmed = input.trim();\n    ",
    'package main\n\nimport "fmt"\n\nfunc {}(names []string) {{\n\tfor i, name := range names {{\n\t\t',
    "class Queue:\n    def __init__(self):\n        self.items = []\n\n    def {}(self, item):\n        ",
    "#!/bin/sh\n# {}: copy every log older than a week\nset -e\nfor file in /var/log/*.log; do\n  ",
)
CODE_NAMES = ("summarise", "factorial", "unique", "late_orders", "parse_port", "greet", "push", "archive_logs")
QUESTIONS = (
    "Explain in two sentences what {} is.",
    "Erkläre in zwei Sätzen, was {} ist.",
    "Explique en deux phrases ce qu'est {}.",
    "Explica en dos frases qué es {}.",
    "请用两句话解释什么是{}。",
    "{}とは何か、二文で説明してください。",
    "Объясни в двух предложениях, что такое {}.",
    "اشرح في جملتين ما هو {}.",
    "{} क्या है, दो वाक्यों में समझाइए।",
    "Explique em duas frases o que é {}.",
)
SUBJECTS = ("photosynthesis", "inflation", "TCP", "a glacier", "DNA", "Wi-Fi", "a sonnet", "insulin", "GPS", "algebra")
SYSTEM_PROMPTS = (
    "You are a patient tutor. Answer briefly.",
    "You are the help desk of a ferry company. Be polite and exact.",
    "Answer as a ship's engineer would, in plain words.",
    "You translate what the user says into simple English and then answer it.",
)
TALKS = (
    ("Can you help me plan a {}?", "Of course. How many people will come?", "About twenty. What do I need first?"),
    ("I have to give a talk about a {}.", "How long may it be?", "Five minutes. Suggest an opening sentence."),
    ("What could go wrong with a {}?", "Mostly the weather and the money.", "Tell me more about the money."),
    ("My {} was cancelled.", "I am sorry. Do you want to move it?", "Yes, to Friday. Write the message for me."),
)
OCCASIONS = ("birthday party", "school trip", "garden wedding", "product launch", "boat race", "charity concert")
SHORT_QUESTIONS = (
    "What is the capital of {}? Answer in one word.",
    "Name one city in {}. Answer with the name only.",
    "Write one short sentence about {}.",
    "Is {} in Europe? Answer yes or no.",
)
COUNTRIES = ("France", "Japan", "Brazil", "Kenya", "Norway", "Egypt", "Canada", "India", "Portugal", "Chile")
OPEN_REQUESTS = (
    "Invent a name for a {} and say what it is like.",
    "Write the first line of a story about a {}.",
    "Tell me something surprising about a {}.",
    "Make up a short poem about a {}.",
)
THINGS = ("lighthouse", "parrot", "violin", "submarine", "bakery", "comet", "clockmaker", "teapot", "fox", "train")
COLOURS = ("red", "blue", "green", "yellow", "black", "white", "grey", "brown")
GOODS = ("bolts", "lamps", "ropes", "valves", "tiles", "cables", "wheels", "pumps", "hinges", "drums", "mirrors")
PEOPLE = ("Amara", "Bjorn", "Chen", "Dalia", "Emeka", "Farah", "Goran", "Hana")
RECORD_QUESTIONS = (
    "How many items does the crate of record {} hold, and who signed it?",
    "Which colour is the crate of record {}, and what is in it?",
    "Who signed record {}? Give the name and the number of items.",
    "Repeat record {} word by word.",
)
