"""Names for containers that were given none: a word about the person and a name from the history of computing and seafaring."""

from __future__ import annotations

import os

_MANNERS = (
    "able airy amber ample brave brisk broad calm candid civil clear clever cosy crisp deft dapper eager early earnest fair fleet"
    " fluent fond frank fresh gallant gentle glad golden grand handy hardy hearty honest humble ideal jolly jovial just keen kind"
    " lively loyal lucid lucky lunar mellow merry mighty mild modest nimble noble patient placid polite prime proud quick quiet"
    " rapid ready robust rosy sage serene sharp silent silver sober solid spry stable steady stout subtle sunny swift tender tidy"
    " trim true trusty upbeat valiant vivid warm wise witty worthy zesty"
).split()
_PEOPLE = (
    "abel allen amdahl amundsen babbage backus bass bartik booth boole borg brooks cabot carr cerf chapman church clarke cobb"
    " codd cook cray dahl darwin davis dijkstra drake engelbart erdos euler faraday fagin floyd fourier galois gauss gill godel"
    " goldberg gray hamilton hamming hansen hero hoare hollerith holberton hopper hudson huffman johnson kahan karp kay keller"
    " kilburn kleene knuth lamarr lamport lanczos leibniz liskov lovelace magellan markov mauchly mccarthy mclean meitner moore"
    " nansen naur neumann newman noether nygaard pascal perlis polo post rabin ritchie rivest ross sammet scott shannon shaw"
    " simon snyder tarjan thompson turing wilkes wilson wirth yao zuse"
).split()


def make_up(attempt: int = 0) -> str:
    """A random name such as keen_hopper; later attempts have a number, since the name before was taken."""
    first, second = (int.from_bytes(os.urandom(4), "big") for _ in range(2))
    name = f"{_MANNERS[first % len(_MANNERS)]}_{_PEOPLE[second % len(_PEOPLE)]}"
    return f"{name}{first % 10}" if attempt else name
