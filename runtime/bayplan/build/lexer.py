"""Quotes, escapes and variables in a Dockerfile's words: what text is made of a word, and into which words it falls.

    lexer.process("${A:-x} 'b c'", {"A": ""}, Rules()).text      "x b c"
    lexer.process("${A:-x} 'b c'", {"A": ""}, Rules()).words     ("x", "b c")

Source: Dockerfile reference, "Environment replacement", and where that is silent, BuildKit's frontend/dockerfile/shell. All that is wrong
raises Invalid without a place; who knows the instruction adds it. A text is bounded, and so is the depth of `${a:-${b:-...}}`: variables
that name each other would fill the memory.
"""

from __future__ import annotations

from bayplan.errors import Invalid
from bayplan.model.value import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

LONGEST = 1 << 20
_DEEPEST = 50
_SPECIAL = "@*#?-$!0"  # the shell's special parameters are names, too: none is ever set
SPACE = frozenset("\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000") | {chr(code) for code in range(0x2000, 0x200B)}  # Go's IsSpace


class Rules(NamedTuple):
    """How a text is read. `quotes`: they quote, and are removed, unless `raw_quotes` keeps them; `raw_escapes` keeps the escape characters;
    `keep_unset` leaves a variable that is not set as it is written."""

    escape: str = "\\"
    quotes: bool = True
    raw_quotes: bool = False
    raw_escapes: bool = False
    keep_unset: bool = False


class Processed(NamedTuple):
    """The text, the words into which its unquoted spaces split it, and the variables that it named: with a value and without."""

    text: str
    words: tuple[str, ...]
    used: frozenset[str]
    unset: frozenset[str]


def process(text: str, variables: Mapping[str, str], rules: Rules) -> Processed:
    """Read `text`; raises Invalid for an unclosed quote or brace, an unknown operator, and what `${name:?}` demands."""
    lexer = _Lexer(text, variables, rules)
    made, words = lexer.until("", raw=rules.raw_escapes)
    return Processed(made, tuple(words), frozenset(lexer.used), frozenset(lexer.unset))


class _Words:
    """What is read so far, as text and as words."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.words: list[str] = []
        self._word: list[str] = []

    def quoted(self, text: str) -> None:
        """Text whose spaces split nothing."""
        self.text.append(text)
        self._word.append(text)

    def plain(self, text: str) -> None:
        """Text whose spaces end a word."""
        self.text.append(text)
        for character in text:
            if character in SPACE:
                self._end()
            else:
                self._word.append(character)

    def _end(self) -> None:
        word = "".join(self._word)
        if word:
            self.words.append(word)
            self._word = []

    def done(self) -> tuple[str, list[str]]:
        self._end()
        return "".join(self.text), self.words


class _Lexer:
    """One pass over a text; `at` is the next character."""

    def __init__(self, text: str, variables: Mapping[str, str], rules: Rules) -> None:
        self.source = text
        self.at = 0
        self.variables = variables
        self.rules = rules
        self.used: set[str] = set()
        self.unset: set[str] = set()
        self._raw = rules.raw_escapes
        self._depth = 0
        self._made = 0

    def until(self, stop: str, *, raw: bool) -> tuple[str, list[str]]:
        """Text and words up to the character `stop`, which is passed; "" is the end of the text."""
        before, self._raw, self._depth = self._raw, raw, self._depth + 1
        if self._depth > _DEEPEST:
            raise Invalid(f"variables are nested deeper than {_DEEPEST}")
        words = _Words()
        while self.at < len(self.source):
            if stop and self.source[self.at] == stop:
                self.at += 1
                break
            self._step(words)
        else:
            if stop:
                raise Invalid(f"a {stop!r} is missing at the end of ${{...}}")
        self._raw, self._depth = before, self._depth - 1
        return words.done()

    def _step(self, words: _Words) -> None:
        character = self.source[self.at]
        if character == "$":
            words.plain(self._bounded(self._dollar()))
        elif character in "'\"" and self.rules.quotes:
            words.quoted(self._single() if character == "'" else self._double())
        elif character == self.rules.escape:
            words.quoted((character if self._raw else "") + self.source[self.at + 1 : self.at + 2])
            self.at += 2
        else:
            words.plain(character)
            self.at += 1

    def _bounded(self, text: str) -> str:
        self._made += len(text)
        if self._made > LONGEST:
            raise Invalid(f"its variables make it longer than {LONGEST} characters")
        return text

    def _single(self) -> str:
        """All to the next ' is as it stands: nothing escapes one."""
        end = self.source.find("'", self.at + 1)
        if end < 0:
            raise Invalid("a ' is not closed")
        begin, self.at = self.at, end + 1
        return self.source[begin : end + 1] if self.rules.raw_quotes else self.source[begin + 1 : end]

    def _double(self) -> str:
        """Variables are replaced; the escape character counts before ", $ and itself only."""
        quote = '"' if self.rules.raw_quotes else ""
        parts = [quote]
        self.at += 1
        while self.at < len(self.source):
            character = self.source[self.at]
            if character == '"':
                self.at += 1
                return "".join([*parts, quote])
            if character == "$":
                parts.append(self._bounded(self._dollar()))
                continue
            self.at += 1
            if character == self.rules.escape:
                parts.append(character if self._raw else "")
                if self.at < len(self.source) and self.source[self.at] in ('"', "$", self.rules.escape):
                    character = self.source[self.at]
                    self.at += 1
            parts.append(character)
        raise Invalid('a " is not closed')

    def _dollar(self) -> str:
        self.at += 1
        if self.source[self.at : self.at + 1] != "{":
            name = self._name()
            return self._value(name, f"${name}") if name else "$"
        self.at += 1
        if self.source[self.at : self.at + 1] in ("{", "}", ":"):
            raise Invalid(f"bad substitution: no name begins with {self.source[self.at]!r}")
        name = self._name()
        operator = self._take()
        if operator == "}":
            return self._value(name, f"${{{name}}}")
        if operator == "/":
            return self._replaced(name)
        colon = operator == ":"
        return self._modified(name, self._take() if colon else operator, colon)

    def _take(self) -> str:
        if self.at >= len(self.source):
            raise Invalid("a '}' is missing at the end of ${...}")
        self.at += 1
        return self.source[self.at - 1]

    def _name(self) -> str:
        """A variable's name, or digits, or a special parameter."""
        begin = self.at
        first = self.source[begin : begin + 1]
        digits = first.isdecimal()
        if not digits and first and first in _SPECIAL:
            self.at += 1
            return first
        while self.at < len(self.source):
            character = self.source[self.at]
            if not (character.isdecimal() or (not digits and (character.isalpha() or character == "_"))):
                break
            self.at += 1
        return self.source[begin : self.at]

    def _lookup(self, name: str) -> str | None:
        value = self.variables.get(name)
        (self.unset if value is None else self.used).add(name)
        return value

    def _value(self, name: str, written: str) -> str:
        value = self._lookup(name)
        if value is None:
            return written if self.rules.keep_unset else ""
        return value

    def _modified(self, name: str, operator: str, colon: bool) -> str:
        """${name-word} and its like; with a colon, an empty value is none."""
        written = (":" if colon else "") + operator
        if operator not in "-+?#%":
            raise Invalid(f"the operator {written!r} in ${{{name}{written}...}} is unknown; known are :- - :+ + :? ? # ## % %% / //")
        word, _ = self.until("}", raw=operator in "#%")
        value = self._lookup(name)
        if value is None and self.rules.keep_unset:
            return f"${{{name}{written}{word}}}"
        given = value is not None and not (colon and not value)
        if operator == "-":
            return (value or "") if given else word
        if operator == "+":
            return word if given else ""
        if operator == "?":
            if not given:
                raise Invalid(f"variable {name}: {word or ('it has to be set' if value is None else 'it may not be empty')}")
            return value or ""
        longest = word.startswith(operator)
        from bayplan.build import globs  # for the few who have patterns

        return globs.trimmed(value or "", word[longest:], end=operator == "%", longest=longest)

    def _replaced(self, name: str) -> str:
        """${name/pattern/replacement} once, ${name//pattern/replacement} everywhere."""
        everywhere = self.source[self.at : self.at + 1] == "/"
        self.at += everywhere
        pattern, _ = self.until("/", raw=True)
        replacement, _ = self.until("}", raw=True)
        value = self._lookup(name)
        if value is None and self.rules.keep_unset:
            return f"${{{name}/{pattern}/{replacement}}}"
        from bayplan.build import globs

        return globs.replaced(value or "", pattern, self._bounded(replacement), everywhere=everywhere, longest=LONGEST)
