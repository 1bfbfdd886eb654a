"""What .dockerignore leaves out, as Docker's own matcher has it."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayplan.build import ignore
from bayplan.errors import Invalid


def excludes(text: str, path: str) -> bool:
    return ignore.parse(text.encode()).excludes(path)


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("**", "file", True), ("**/", "file", True), ("**", "dir/file", True), ("**/**", "dir/file", True), ("dir/**", "dir/file", True),
        ("dir/**", "dir/dir2/file", True), ("dir/**", "dir", False), ("**/dir", "dir", True), ("**/dir", "dir/file", True),
        ("**/dir2/*", "dir/dir2/file", True), ("**/dir2/**", "dir/dir2/dir3/file", True), ("**file", "file", True),
        ("**file", "dir/dir/file", True), ("**file", "a/myfile", True), ("**/file", "a/myfile", False),
        ("**/file*", "dir/dir/file.txt", True), ("**/file*txt", "dir/dir/file.txt", True), ("**/file*.txt*", "dir/dir/file.txt", True),
        ("**/**/*.txt", "dir/dir/file.txt", True),
        ("**/**/*.txt2", "dir/dir/file.txt", False), ("**/*.txt", "file.txt", True), ("a**/*.txt", "a/file.txt", True),
        ("a**/*.txt", "a/dir/dir/file.txt", True), ("a/*.txt", "a/dir/file.txt", False), ("a/*.txt**", "a/file.txt", True),
        ("a[b-d]e", "ae", False), ("a[b-d]e", "ace", True), ("a[b-d]e", "aae", False), ("a[^b-d]e", "aze", True), (".*", ".foo", True),
        (".*", "foo", False), ("abc.def", "abcZdef", False), ("abc?def", "abcZdef", True), ("abc?def", "abcdef", False),
        ("**/foo/bar", "dir/dir2/foo/bar", True), ("**/.foo", "bar.foo", False), ("a(b)c/def", "a(b)c/def", True),
        ("a.|)$(}+{bc", "a.|)$(}+{bc", True), ("dist/*.whl", "dist/proxy.py-2.4.0rc3.dev36+g08acad9-py3-none-any.whl", True),
        ("a\\\\", "a\\", True), ("a\\*b", "a*b", True), ("a\\*b", "axb", False), ("a*", "ab/c", True), ("a*/b", "a/c/b", False),
        ("a*b*c*d*e*/f", "axbxcxdxexxx/f", True), ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", False), ("a*b?c*x", "abxbbxdbxebxczzx", True),
        ("a*b?c*x", "abxbbxdbxebxczzy", False), ("a?b", "a☺b", True), ("a?b", "a/b", False), ("[a-ζ]*", "α", True), ("*[a-ζ]", "A", False),
        ("[\\]a]", "]", True), ("[x\\-]", "-", True), ("[\\-x]", "a", False), ("*x", "xxx", True), ("*", ".", False),
        ("/a/b", "a/b", True),
        ("./a//b/../c", "a/c", True), ("a", "ab", False), ("  a  ", "a", True),
        ("..", "a", False), ("#a", "#a", False), ("\\#a", "#a", True),
        ("a\r", "a", True), ("**/a/**/b*c", "x/a/y/z/b1c", True), ("a/b", "/a/b/", True),
    ],
)  # fmt: skip
def test_a_path_is_left_out_where_a_pattern_matches_it_or_a_parent(pattern: str, path: str, expected: bool) -> None:
    assert excludes(pattern + "\n", path) is expected, "as moby/patternmatcher says"


@pytest.mark.parametrize(
    ("patterns", "path", "expected"),
    [
        ("docs\n!docs/README.md", "docs/README.md", False), ("docs/\n!docs/README.md", "docs/a", True),
        ("docs/*\n! docs/README.md", "docs/README.md", False), ("!a.go\n*.go", "a.go", True), ("*.go\n!a.go", "a.go", False),
        ("**\n!util/docker/web", "util/docker/web/foo", False), ("**\n!util/docker/web\nutil/docker/web/foo", "util/docker/web/foo", True),
        ("a\n!a/c\na*", "a/c", True), ("\ufeffa", "a", True), ("", "a", False),
    ],
)  # fmt: skip
def test_the_last_pattern_that_matches_decides(patterns: str, path: str, expected: bool) -> None:
    assert excludes(patterns, path) is expected, "later lines have the last word"


@pytest.mark.parametrize("pattern", ["!", "! ", "[", "[]a]", "[-]", "[x-]", "[-x]", "\\", "[a-b-c]", "[^", "[^bc", "a[", "[b-a]"])
def test_a_malformed_pattern_is_an_error_with_its_line(pattern: str) -> None:
    with pytest.raises(Invalid, match=r"^\.dockerignore:2: "):
        ignore.parse(f"ok\n{pattern}\n".encode())


@pytest.mark.parametrize(
    ("patterns", "directory", "expected"),
    [
        ("a", "a", True), ("a", "b", False), ("a\n!a/b", "a", False), ("a\n!a/b", "a/c", True), ("a\n!b", "a", True),
        ("*\n!src", "lib", True),
        ("*\n!src/**/*.go", "src", False), ("*\n!src/**/*.go", "lib", True), ("*\n!**/*.go", "lib", False), ("*\n!l*/x", "lib", False),
        ("*\n!ab", "a", True),
    ],
)  # fmt: skip
def test_a_directory_is_skipped_only_where_nothing_below_it_comes_back(patterns: str, directory: str, expected: bool) -> None:
    assert ignore.parse(patterns.encode()).skips(directory) is expected, "what is below is not looked at"


PIECES = st.lists(st.sampled_from(["a", "b", "/", "*", "**", "?", "[a-b]", "[^a]", "\\*", "**/", "/**", "!"]), min_size=1, max_size=8)
PATHS = st.lists(st.sampled_from(["a", "b", "ab", "*", "a/b"]), min_size=1, max_size=5).map("/".join)


@given(PIECES.map("".join), PATHS)
def test_both_ways_to_match_say_the_same(pattern: str, path: str) -> None:
    tokens = ignore._tokens(pattern)
    found = ignore.re.compile(ignore.expression(tokens), ignore.re.DOTALL).fullmatch(path)
    assert ignore.follow(tokens, path, {}) is bool(found), "places in the pattern, or a regular expression"


@given(st.lists(PIECES.map("".join), max_size=4), PATHS)
def test_what_is_skipped_holds_nothing_that_is_kept(patterns: list[str], path: str) -> None:
    try:
        found = ignore.parse("\n".join(patterns).encode())
    except Invalid:
        return
    top = path.partition("/")[0]
    if found.skips(top):
        assert found.excludes(path), "a directory that is skipped is left out with everything"
    assert found.matches(path, None) == ignore.Matches(found.excludes(path), found.matches(path).by), "step by step is the same"


def test_a_hostile_pattern_and_path_take_no_time() -> None:
    began = time.process_time()
    assert not excludes("*a" * 500 + "b", "a" * 4000), "no match"
    assert not excludes("**/a" * 500 + "b", "a/" * 500), "no match"
    assert time.process_time() - began < 5, "time grows with the product of the lengths, not with their powers"


@pytest.mark.parametrize("data", [b"a" * 5000, b"a\n" * 3000, b"a" * (2 << 20)])
def test_a_file_is_bounded(data: bytes) -> None:
    with pytest.raises(Invalid, match=r"allowed|at most"):
        ignore.parse(data)


def test_excludes_of_a_copy_are_patterns_one_by_one() -> None:
    assert ignore.parse_patterns(["*.md", "", "!a.md"], "COPY --exclude").excludes("b.md"), "as lines of a file"
    with pytest.raises(Invalid, match=r"^COPY --exclude: "):
        ignore.parse_patterns(["["], "COPY --exclude")
