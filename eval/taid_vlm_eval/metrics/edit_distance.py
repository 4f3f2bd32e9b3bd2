"""Levenshtein's distance, quick on long texts."""


def edit_distance(first: str, second: str) -> int:
    """The fewest insertions, deletions and replacements of characters that turn one text into the other.

    Bit-parallel (Myers, "A Fast Bit-Vector Algorithm for Approximate String Matching", 1999, in Hyyrö's form): a column of
    the table is two big integers, so that an answer that rambles for 100 kB costs a second and not an hour.
    """
    if len(first) > len(second):
        first, second = second, first
    if not first:
        return len(second)
    positions: dict[str, int] = {}
    for index, character in enumerate(first):
        positions[character] = positions.get(character, 0) | (1 << index)
    full = (1 << len(first)) - 1
    last = 1 << (len(first) - 1)
    plus, minus = full, 0  # where the column grows and falls by one from a row to the next
    distance = len(first)
    for character in second:
        match = positions.get(character, 0)
        diagonal = ((((match & plus) + plus) ^ plus) | match | minus) & full
        grows = minus | ~(diagonal | plus) & full
        falls = plus & diagonal
        distance += bool(grows & last) - bool(falls & last)
        grows = (grows << 1 | 1) & full
        plus = (falls << 1 | ~(diagonal | grows)) & full
        minus = grows & diagonal
    return distance
