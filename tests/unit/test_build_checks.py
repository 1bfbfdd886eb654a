"""Docker's build checks: what each finds, and what switches it off."""

from __future__ import annotations

import pytest

from bayplan.build import checks, ignore, stages, syntax
from bayplan.build.checks import Checked, Options
from bayplan.errors import Invalid

ALPINE = {"docker.io/library/a:latest": ("PATH", "FROM_IMAGE")}


def check(text: str, *, ignored: str | None = None, target: str = "", **build_args: str) -> Checked:
    file = syntax.parse(text.encode())
    plan = stages.plan(file, target=target, build_args=build_args, platform="linux/amd64")
    return checks.check(file, plan, environments=ALPINE, ignored=None if ignored is None else ignore.parse(ignored.encode()))


@pytest.mark.parametrize(
    ("text", "rule", "line", "message"),
    [
        ("FROM a AS Base", "StageNameCasing", 1, "Stage name 'Base' should be lowercase"),
        ("FROM a as b", "FromAsCasing", 1, "'as' and 'FROM' keywords' casing do not match"),
        ("FROM a\nRUN x \\\n\n y", "NoEmptyContinuation", 2, "Empty continuation line"),
        ("FROM a\nRun x", "ConsistentInstructionCasing", 2, "Command 'Run' should match the case of the command majority (uppercase)"),
        ("from a\nrun x\nRUN y", "ConsistentInstructionCasing", 3,
         "Command 'RUN' should match the case of the command majority (lowercase)"),
        ("FROM a AS x\nFROM a AS x", "DuplicateStageName", 2, 'Duplicate stage name "x", stage names should be unique'),
        ("FROM a AS scratch", "ReservedStageName", 1, 'Stage name should not use the same name as reserved stage "scratch"'),
        ("FROM a\nCMD x", "JSONArgsRecommended", 2,
         "JSON arguments recommended for CMD to prevent unintended behavior related to OS signals"),
        ("FROM a\nMAINTAINER x", "MaintainerDeprecated", 2, "Maintainer instruction is deprecated in favor of using label"),
        ("ARG VERSION=1\nFROM a:1$VERSON", "UndefinedArgInFrom", 2, "FROM argument 'VERSON' is not declared (did you mean VERSION?)"),
        ("FROM a\nWORKDIR x", "WorkdirRelativePath", 2, 'Relative workdir "x" can have unexpected results if the base image changes'),
        ("FROM a\nARG NAME=x\nCOPY $NAMES /", "UndefinedVar", 3, "Usage of undefined variable '$NAMES' (did you mean $NAME?)"),
        ("FROM a\nENV X=$Y", "UndefinedVar", 2, "Usage of undefined variable '$Y'"),
        ('FROM a\nCMD ["x"]\nCMD ["y"]', "MultipleInstructionsDisallowed", 2,
         "Multiple CMD instructions should not be used in the same stage because only the last one will be used"),
        ("FROM a\nENV x y", "LegacyKeyValueFormat", 2, '"ENV key=value" should be used instead of legacy "ENV key value" format'),
        ("FROM --platform=$TARGETPLATFORM a", "RedundantTargetPlatform", 1,
         "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior"),
        ("FROM a\nARG DB_PASSWORD", "SecretsUsedInArgOrEnv", 2,
         'Do not use ARG or ENV instructions for sensitive data (ARG "DB_PASSWORD")'),
        ("FROM a\nENV api_key=x", "SecretsUsedInArgOrEnv", 2, 'Do not use ARG or ENV instructions for sensitive data (ENV "api_key")'),
        ("ARG TAG\nFROM a:${TAG}", "InvalidDefaultArgInFrom", 2,
         "Default value for ARG a:${TAG} results in empty or invalid base image name"),
        ("FROM --platform=linux/arm64 a AS x", "FromPlatformFlagConstDisallowed", 1,
         'FROM --platform flag should not use constant value "linux/arm64"'),
        ("FROM a\nEXPOSE 80/TCP", "ExposeProtoCasing", 2, "Defined protocol '80/TCP' in EXPOSE instruction should be lowercase"),
        ("FROM a\nEXPOSE 127.0.0.1:80:80", "ExposeInvalidFormat", 2,
         "EXPOSE instruction should not define an IP address or host-port mapping, found '127.0.0.1:80:80'"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.isalpha() else "",
)  # fmt: skip
def test_a_rule_finds_what_it_is_for(text: str, rule: str, line: int, message: str) -> None:
    found = check(text, TAG="1").findings
    assert (rule, line, message) in found, "with Docker's words"
    assert not [one for one in check(f"# check=skip={rule}\n{text}", TAG="1").findings if one.rule == rule], "and can be switched off"


@pytest.mark.parametrize(
    "text",
    [
        "FROM a AS x\nFROM x\nRUN y", "from a as b", "FROM a\nRUN x \\\n # c\n y", "ARG a\nfrom b", 'FROM a\nSHELL ["x"]\nCMD y',
        "FROM a\nWORKDIR /x\nWORKDIR y", "FROM a\nARG x=/z\nWORKDIR $x", "FROM a AS b\nWORKDIR /x\nFROM b\nWORKDIR y",
        "FROM a\nCOPY $FROM_IMAGE $PATH /x",
        "FROM a\nARG X\nCOPY $X /y", "FROM a AS b\nENV X=1\nFROM b\nCOPY $X /y", "FROM unknown\nCOPY $X /y",
        'FROM a AS b\nCMD ["x"]\nFROM b\nCMD ["y"]',
        "FROM --platform=$BUILDPLATFORM a", "FROM --platform=linux/arm64 a AS x-arm64", "FROM a\nENV PUBLIC_KEY=x TOKEN_FILE=y MONKEY=z",
        "ARG TAG=1\nFROM a:${TAG}", "FROM a\nEXPOSE 80/tcp 90", "FROM a\nRUN echo $UNKNOWN", "FROM scratch\nCOPY $PATH /x",
        "FROM a\nENV X=${Y:-z}\nRUN x",
    ],
)  # fmt: skip
def test_what_is_well_is_left_alone(text: str) -> None:
    expected = [("UndefinedVar", 2, "Usage of undefined variable '$Y'")] if "Y:-" in text else []
    assert list(check(text).findings) == expected, "no rule speaks where nothing is wrong; a default does not declare a variable"


def test_stages_that_are_not_built_are_not_followed() -> None:
    assert not check("FROM a AS x\nFROM a AS y\nCMD z", target="x").findings, "but for what the file itself says"


def test_sources_that_the_context_leaves_out() -> None:
    found = check("FROM a\nCOPY x ./y/b $PATH /z\nADD x /z\nCOPY --from=c x /z", ignored="x\ny").findings
    assert [(one.line, one.message) for one in found] == [
        (2, 'Attempting to Copy file "./y/b" that is excluded by .dockerignore'),
        (2, 'Attempting to Copy file "x" that is excluded by .dockerignore'),
        (3, 'Attempting to Add file "x" that is excluded by .dockerignore'),
    ], "from another stage they are not left out"
    assert not check("FROM a\nCOPY x /z", ignored="x\n!x/y").findings, "where something comes back in, nothing can be said"


def test_the_comment_above_an_instruction_skips_rules_for_it() -> None:
    found = check("FROM a\n# check=skip=SecretsUsedInArgOrEnv\nARG KEY\nARG TOKEN").findings
    assert [one.line for one in found] == [4], "for it alone"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Options()), ("skip=all", Options(frozenset({"all"}))), ("skip=A, B;error=true", Options(frozenset({"A", "B"}), fatal=True)),
        ("error=0;experimental=all", Options()), (" skip = A ", Options(frozenset({"A"}))),
    ],
)  # fmt: skip
def test_options_are_read(text: str, expected: Options) -> None:
    assert checks.parse_options(text) == expected, "separated by semicolons"


@pytest.mark.parametrize("text", ["skip", "what=x", "error=maybe", "=x"])
def test_options_that_make_no_sense_are_errors(text: str) -> None:
    with pytest.raises(Invalid, match="reading the checks' options"):
        check(f"# check={text}\nFROM a")


def test_findings_may_end_the_build() -> None:
    checked = check("# check=error=true\nFROM a AS B\nARG KEY\nARG TOKEN")
    assert checked.fatal and checked.violation == "lint violation found for rules: SecretsUsedInArgOrEnv, StageNameCasing", (
        "in Docker's words"
    )
    assert not check("# check=error=true\nFROM a").fatal, "if there are any"
    assert not check("# check=error=true\nFROM a AS B", BUILDKIT_DOCKERFILE_CHECK="skip=all").findings, "the build argument decides"
