"""Options of the modules and operations that make and move images, one table for each."""

from __future__ import annotations

from bayplan.model.option import Option

_FORMAT = Option("format", "str", "Whose words the manifest is in: it then has another digest than the image came with.", choices=("docker", "oci"))

BUILD = (
    Option("name", "str", "The name that the image gets.", required=True),
    Option("tags", "list", "Further names for it.", elements="str", aliases=("tag",)),
    Option("context", "path", "A directory on the controller with what the Dockerfile copies. Its files are carried to the host, but for those that C(.dockerignore) leaves out."),
    Option("remote_context", "str", "The same on the host: a directory, an archive, or the address of an archive or a git repository."),
    Option("dockerfile", "str", "The Dockerfile, relative to the context; C(Dockerfile) or C(Containerfile) if left out. With O(context) it may be another file of the controller's."),
    Option("dockerfile_inline", "str", "The Dockerfile's text. Without a context there is nothing to copy."),
    Option("args", "dict", "Values of the Dockerfile's ARGs.", aliases=("build_args",)),
    Option("target", "str", "The stage to build; the last one if left out."),
    Option("labels", "dict", "Labels for the image."),
    Option("platform", "str", "The platform to build for, such as C(linux/arm64); the host's own if left out."),
    Option("secrets", "dict", "What C(RUN --mount=type=secret) may read, by its id. It is in no layer, no record and no result.", no_log=True),
    Option("pull", "bool", "Ask the registries whether they have newer base images."),
    Option("nocache", "bool", "Make every step anew.", aliases=("no_cache",)),
    Option("source_date_epoch", "int", "Seconds since 1970: no time in the image is later."),
)

PUSH = (
    Option("name", "str", "The image's name, which says where it goes; with O(all_tags) a repository's name, without a tag.", required=True),
    Option("all_tags", "bool", "Push every image of the repository."),
    Option("compression", "str", "How layers are packed that were made here; C(gzip) if left out.", choices=("gzip", "zstd")),
    _FORMAT,
)

TAG = (
    Option("name", "str", "The image, by name or id.", required=True),
    Option("tags", "list", "The names that it gets, taken from whatever had them.", elements="str", required=True, aliases=("tag",)),
)

SAVE = (
    Option("names", "list", "The images, by name or id.", elements="str", required=True, aliases=("name",)),
    Option("path", "str", "The archive on the host. One that holds these images already is left alone, anything else is replaced.", required=True),
    Option("format", "str", "The kind of archive.", choices=("docker-archive", "oci-archive"), default="docker-archive"),
)

LOAD = (
    Option("archive", "path", "An archive on the controller (docker-archive, oci-archive). It is carried to the host only if images or names of it are missing there."),
    Option("remote_archive", "str", "The same, of an archive or OCI layout that is already on the host."),
)

COPY = (
    Option("source", "str", "Where the image is: C(docker://NAME), C(oci:DIRECTORY[:TAG]), C(oci-archive:FILE[:NAME]), C(docker-archive:FILE[:NAME]) or C(store:NAME).", required=True),
    Option("target", "str", "Where it goes, written the same way.", required=True, aliases=("destination",)),
    Option("all", "bool", "Copy every platform of an index, with the index itself."),
    Option("platform", "str", "The platform to choose of an index; the host's own if left out."),
    _FORMAT,
)

PRUNE = (
    Option("all", "bool", "Remove all images that no container uses, those with a name too; only those without one otherwise."),
    Option("build_cache", "bool", "Remove what of the build cache no image has, too; with O(all) everything."),
    Option("labels", "list", "Only images with these labels, C(KEY) or C(KEY=VALUE).", elements="str", aliases=("label",)),
    Option("without_labels", "list", "Only images without these labels.", elements="str"),
    Option("until", "str", "Only what is older than this, such as C(24h)."),
)

LOGIN = (
    Option("registry", "str", "The registry, C(HOST[:PORT]); Docker's own if left out.", aliases=("registry_url",)),
    Option("state", "str", "Whether the host is logged in.", choices=("present", "absent"), default="present"),
    Option("username", "str", "The user. Needed to log in."),
    Option("password", "str", "The password or token. Needed to log in.", no_log=True),
    Option("auth_file", "str", "The file that keeps the login; C($REGISTRY_AUTH_FILE), or the user's C(.docker/config.json), if left out.", aliases=("config_path",)),
)  # fmt: skip
