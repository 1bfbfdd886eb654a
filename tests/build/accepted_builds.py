"""Where other builders make something else of a case than it expects, each with its reason."""

from __future__ import annotations

import re
from typing import NamedTuple

from compare import Difference


class Accepted(NamedTuple):
    """Differences of the engines, cases and names of fields that match these expressions entirely."""

    engine: str
    case: str
    what: str  # tree, config or build
    name: str
    reason: str

    def covers(self, engine: str, case: str, difference: Difference) -> bool:
        pairs = ((self.engine, engine), (self.case, case), (self.what, difference.what), (self.name, difference.name))
        return all(re.fullmatch(expression, text, re.DOTALL) for expression, text in pairs)


DOCKER = "buildkit|classic"

ACCEPTED: tuple[Accepted, ...] = (
    # What buildah does in its own way.
    Accepted("buildah", "add-a-repository.*", "tree", r".*/\.git(/.*)?", "it keeps .git, whose files are not the same twice"),
    Accepted("buildah", "add-an-archive-that-climbs", "build", "", "it leaves .. out of the name"),
    Accepted("buildah", "add-chown-of-an-archive", "tree", "/srv/.*", "an archive's owners win over --chown"),
    Accepted("buildah", "arg-name-missing-fails", "build", "", "it does not look at ARG's name"),
    Accepted("buildah", "copy-chmod-symbolic", "build", "", "it has only octal modes"),
    Accepted("buildah", "copy-exclude", "tree", "/.*", "its patterns begin at the context, and not at the source"),
    Accepted("buildah", "copy-from-a-stage-by-name|.*-in-other-letters|target-by-name", "build", "", "its stages' names have a case"),
    Accepted("buildah", "copy-to-a-(dangling-link|link-to-a-file)", "tree", "/opt/.*", "it replaces the link, or makes a directory"),
    Accepted("buildah", "env-empty-value|expansion-(operators|required-.*)", "build", "", "its operators are those with a colon"),
    Accepted("buildah", "env-replaces-in-place", "config", "Env", "it puts a changed variable at the end"),
    Accepted("buildah", "escape-directive", "config", "Env", "its escape directive is for lines, and not for words"),
    Accepted("buildah", "expansion-patterns", "config", "Env", "it takes the shortest prefix away where ## says the longest"),
    Accepted("buildah", "expose-.*", "config|build", "ExposedPorts|", "it keeps what EXPOSE says as it is, unread"),
    Accepted("buildah", "from-duplicate-stage-names", "tree", "/made", "it takes the first of two stages of a name"),
    Accepted("buildah", "heredoc-escapes", "tree", "/srv/name", "it expands a here-document by rules of its own"),
    Accepted("buildah", "ignore-by-the-dockerfiles-name", "tree", "/srv/.*", "with --file inside the context it takes .dockerignore"),
    Accepted("buildah", "mount-secret-from-the-environment", "build", "", "its secrets have no env="),
    Accepted("buildah", "mount-tmpfs", "build", "", "its tmpfs has no size="),
    Accepted("buildah", "onbuild-copy-from", "build", "", "its triggers know no stages"),
    Accepted("buildah", "shell-.*", "config", "Cmd", "its CMD takes /bin/sh, whatever SHELL says"),
    Accepted("buildah", "volume-.*|expansion-where-.*|copy-into-volume", "tree", "/.*", "it makes the directories of volumes"),
    Accepted("buildah", ".*xattrs.*|.*-with-attributes|copy-capab.*", "tree", "/srv/.*", "attributes of the builder's own files stay"),
    Accepted("buildah", "workdir-.*", "tree", "/.*", "it makes a directory when something is run in it"),
    Accepted("buildah|classic", "copy-(keeps-modes|chown-of-a-link).*", "tree", ".*", "a change of owner takes set-id bits away"),
    Accepted("buildah|classic", "copy-a-.*(-fails|-over-a-(directory|file))", "build", "", "what is copied replaces what is there"),
    Accepted("buildah|classic", "copy-wildcard-without-a-match", "build", "", "a wildcard that matches nothing is an error there"),
    # The classic builder, which is not developed any more.
    Accepted("classic", "add-a-url-with-wrong-checksum-fails", "build", "", "it does not look at --checksum"),
    Accepted("classic", "add-chown-of-an-archive", "tree", "/srv/.*", "an archive's owners win over --chown"),
    Accepted("classic", "arg-is-inherited-from-a-stage", "tree", "/seen", "its ARGs end with their stage"),
    Accepted("classic", "copy-chown-names", "build", "", "--chown takes a user there"),
    Accepted("classic", "copy-dot-dot-.*", "build", "", "it refuses .. where the others stop at the context"),
    Accepted("classic", "copy-from-a-stage-keeps-owners", "tree", "/srv/capable", "it copies files without their attributes"),
    Accepted("classic", "copy-from-an-image|from-scratch.*", "config", "WorkingDir", "what is made from nothing says no directory"),
    Accepted("classic", "from-duplicate-stage-names", "build", "", "it refuses a second stage of a name"),
    Accepted("classic", "user-made-by-run", "build", "", "--chown without a group takes one of the user's name"),
    Accepted("classic", "volume-.*", "tree", "/data/.*", "what is written below a volume is thrown away"),
    Accepted("classic", "workdir-as-user", "tree", "/home/app/made", "it makes directories as root, whatever USER says"),
    # BuildKit, where the expectation is another.
    Accepted("buildkit", "copy-chown-unknown-name-fails", "build", "", "it takes root for a user that it does not find"),
    Accepted("buildkit", "copy-link", "tree", "/opt/.*", "with images outside of containerd, --link is copied once more"),
    Accepted("buildkit", "copy-link-with-owner", "tree", "/new.*", "directories on the way get a file's mode: nobody can enter them"),
    Accepted("buildkit", "copy-parents.*", "build", "", "this version has no --parents yet"),
    Accepted("buildkit", "env-of-the-image-wins-over-arg", "tree", "/seen", "an ARG after an ENV hides it, against its documentation"),
    Accepted("buildkit", "from-a-stage-in-other-letters", "build", "", "stages' names have no case, but in FROM"),
    Accepted("buildkit", "workdir-with-variables", "config", "WorkingDir", "it keeps a slash at the end"),
    Accepted("buildah|buildkit", "from-scratch-with-run", "tree", "/(dev|proc|sys)", "what was mounted on is left"),
    Accepted("buildah|buildkit", "copy-several-sources-need-a-directory", "build", "", "the last source wins, or a directory is made"),
    Accepted(DOCKER, "target-by-number", "build", "", "their targets are names"),
    Accepted(DOCKER, "add-an-archive-with-a-link-out", "build", "", "the link is followed, below the destination"),
)  # fmt: skip


def reason(engine: str, case: str, difference: Difference) -> str | None:
    """Why this difference is meant, or None."""
    return next((each.reason for each in ACCEPTED if each.covers(engine, case, difference)), None)
