"""The table of the command line's verbs: name, handler, arguments, help, options. Handlers are named, so that nothing is
loaded before it is used."""

from __future__ import annotations

from bayplan.cli.call import Verb
from bayplan.cli.container_options import CREATE, RUN, UPDATE
from bayplan.cli.options import flag, many, number, text

GLOBAL = (
    text("root", "DIR", "the state's directory (BAYPLAN_ROOT; /var/lib/bayplan)"),
    text("storage-driver", "NAME", "overlay, vfs or btrfs, for a state that has none yet (BAYPLAN_STORAGE_DRIVER)"),
    flag("debug -D", "show the trace of an error that is a bug"),
    flag("help", "show this help"),
)

VERSION = flag("version -v", "show the version")

FORMAT = text("format", "FORMAT", "json, table, or a template: {{.ID}} {{json .}}")
ONE_FORMAT = text("format -f", "FORMAT", FORMAT.help)
QUIET = flag("quiet -q", "only ids")
FULL = flag("no-trunc", "nothing shortened")
FILTER = many("filter -f", "KEY=VALUE", "only those to which this applies")
FORCE = flag("force -f", "do not ask")
TIME = number("time -t", "seconds from the stop signal to KILL")
TIMEOUT = number("timeout", "the same as --time")
LABELS = many("label", "KEY=VALUE", "a label")
CHANGE = many("change -c", "INSTRUCTION", "CMD ENTRYPOINT ENV EXPOSE HEALTHCHECK LABEL ONBUILD STOPSIGNAL USER VOLUME WORKDIR, its value")
OUTPUT = text("output -o", "FILE", "archive (standard output)")
PLATFORM = text("platform", "OS/ARCH", "platform of the image")
HUMAN = flag("human -H", "sizes and times as people read them (the default)")
KEEP = number("keep", "so many of the lowest layers stay as they are (0)")
LISTING = (FILTER, FORMAT, FULL, QUIET)
STREAMS = (
    flag("no-stdin", "do not attach standard input"),
    flag("sig-proxy", "pass signals on to the container (the default)"),
    text("detach-keys", "KEYS", "keys that detach from a terminal: ctrl-p,ctrl-q"),
)
LABELLED = "label=KEY[=VALUE], label!=KEY[=VALUE]"
PRUNE = (FORCE, many("filter", "KEY=VALUE", f"only those: until=TIME|DURATION, {LABELLED}"))
UNINSTALL = (FORCE, flag("volumes", "volumes and their data, too"))
PROJECT = (
    text("project-name -p", "NAME", "project; the file's name, or its directory's"),
    text("project-directory", "DIR", "what relative paths are relative to"),
    many("profile", "NAME", "also the services of this profile"),
    FORMAT,
)

CONTAINERS = (
    Verb("run", "run:run", "IMAGE [COMMAND] [ARG...]", "create a container and run it", RUN, ("container run",), True, code=125),
    Verb("create", "run:create", "IMAGE [COMMAND] [ARG...]", "create a container", CREATE, ("container create",), True),
    Verb(
        "start",
        "containers:start",
        "CONTAINER...",
        "start containers",
        (flag("attach -a", "attach to its output, and end as it does"), flag("interactive -i", "attach to its input"), *STREAMS[1:]),
        ("container start",),
    ),
    Verb("stop", "containers:stop", "CONTAINER...", "stop containers", (TIME, TIMEOUT), ("container stop",)),
    Verb("restart", "containers:restart", "CONTAINER...", "stop containers and start them", (TIME, TIMEOUT), ("container restart",)),
    Verb("pause", "containers:pause", "CONTAINER...", "hold all processes of containers where they are", (), ("container pause",)),
    Verb("unpause", "containers:unpause", "CONTAINER...", "let paused containers go on", (), ("container unpause",)),
    Verb(
        "kill",
        "containers:kill",
        "CONTAINER...",
        "send a signal to containers",
        (text("signal -s", "SIGNAL", "signal (KILL)"),),
        ("container kill",),
    ),
    Verb(
        "rm",
        "containers:remove",
        "CONTAINER...",
        "remove containers",
        (flag("force -f", "stop it first"), flag("volumes -v", "also its anonymous volumes")),
        ("container rm", "container remove"),
    ),
    Verb(
        "ps",
        "containers:ps",
        "",
        "list containers",
        (
            flag("all -a", "also those that do not run"),
            number("last -n", "the last N made"),
            flag("latest -l", "the last one made"),
            *LISTING,
        ),
        ("container ls", "container ps", "container list"),
    ),
    Verb(
        "logs",
        "streams:logs",
        "CONTAINER",
        "show a container's output",
        (
            flag("follow -f", "go on while it runs"),
            text("tail -n", "N", "only the last N lines"),
            text("since", "TIME", "only from then on: 2026-01-02T03:04:05Z, 10m"),
            text("until", "TIME", "only up to then"),
            flag("timestamps -t", "each line with its time"),
        ),
        ("container logs",),
    ),
    Verb(
        "exec",
        "execute:execute",
        "CONTAINER COMMAND [ARG...]",
        "run a command in a running container",
        (
            flag("detach -d", "do not wait for it"),
            STREAMS[2],
            many("env -e", "KEY[=VALUE]", "environment variable"),
            many("env-file", "FILE", "file of environment variables"),
            flag("interactive -i", "keep its standard input open"),
            flag("privileged", "all capabilities"),
            flag("tty -t", "give it a terminal"),
            text("user -u", "USER[:GROUP]", "user, by name or number"),
            text("workdir -w", "PATH", "working directory"),
        ),
        ("container exec",),
        True,
        code=125,
    ),
    Verb("attach", "streams:attach", "CONTAINER", "attach to a running container", STREAMS, ("container attach",)),
    Verb("wait", "containers:wait", "CONTAINER...", "wait for containers to end, and print their exit status", (), ("container wait",)),
    Verb("port", "containers:port", "CONTAINER [PORT]", "show published ports", (), ("container port",)),
    Verb(
        "top",
        "top:top",
        "CONTAINER [PS-OPTION...]",
        "show the processes of a running container, as `ps -ef` or with its options -e, -f, -o and aux",
        (),
        ("container top",),
        True,
    ),
    Verb(
        "stats",
        "stats:stats",
        "[CONTAINER...]",
        "show what containers use, and go on showing it",
        (flag("all -a", "also those that do not run"), flag("no-stream", "once, and no more"), FORMAT, FULL),
        ("container stats",),
    ),
    Verb(
        "update",
        "run:update",
        "CONTAINER...",
        "change limits and restart policy in place",
        UPDATE,
        ("container update",),
    ),
    Verb(
        "inspect",
        "inspect:inspect",
        "NAME...",
        "show all that is known of containers, images, networks or volumes",
        (ONE_FORMAT, text("type", "KIND", "container, image, network, volume")),
    ),
    Verb("container inspect", "inspect:container", "CONTAINER...", "show all that is known of containers", (ONE_FORMAT,)),
    Verb("container prune", "prune:containers", "", "remove all containers that do not run", PRUNE),
)

IMAGES = (
    Verb(
        "build",
        "build:build",
        "CONTEXT",
        "build an image from a Dockerfile; the context is a directory, - (an archive on standard input) or an address",
        (
            text("file -f", "FILE", "the Dockerfile, - for standard input (Dockerfile in the context)"),
            many("tag -t", "NAME", "a name for the image"),
            many("build-arg", "NAME[=VALUE]", "the value of an ARG; without =, that of the environment"),
            text("target", "STAGE", "the stage to build (the last one)"),
            many("label", "KEY=VALUE", "a label"),
            many("secret", "id=ID[,src=FILE]", "a secret for RUN --mount=type=secret"),
            many("ssh", "ID[=SOCKET]", "an agent for RUN --mount=type=ssh"),
            text("platform", "OS/ARCH", "platform of the image"),
            many("build-context", "NAME=DIR", "a further context for COPY --from=NAME; docker-image://IMAGE is one, too"),
            text("network", "MODE", "of commands that name none: default, none or host"),
            many("add-host", "HOST:ADDRESS", "a line of /etc/hosts while building"),
            many("allow", "WHAT", "let the Dockerfile use security.insecure or network.host"),
            flag("no-cache", "take nothing from the cache"),
            flag("pull", "look for newer images to begin with"),
            flag("quiet -q", "print the image's id, and nothing else"),
            text("progress", "KIND", "plain or quiet (plain)"),
            text("iidfile", "FILE", "write the image's id to it"),
        ),
        ("image build",),
    ),
    Verb(
        "pull",
        "images:pull",
        "IMAGE...",
        "pull images from their registry",
        (
            flag("all-tags -a", "all tags of the repository"),
            text("platform", "OS/ARCH", "platform of the image"),
            flag("quiet -q", "only the image's name"),
        ),
        ("image pull",),
    ),
    Verb(
        "push",
        "moving:push",
        "NAME",
        "push an image to its registry: only what is not there",
        (
            flag("all-tags -a", "all tags of the repository"),
            flag("quiet -q", "only the image's name"),
            text("compression", "NAME", "gzip, zstd: of layers that are not compressed yet (gzip)"),
            text("format", "NAME", "docker, oci: the manifest's (as it came)"),
        ),
        ("image push",),
    ),
    Verb(
        "copy",
        "moving:copy",
        "SOURCE DESTINATION",
        "copy an image between docker://NAME, oci:DIR[:TAG], oci-archive:FILE[:NAME], docker-archive:FILE[:NAME] and store:NAME",
        (
            flag("all -a", "an index with all that is in it"),
            text("platform", "OS/ARCH", "the one of an index (this machine's)"),
            text("format", "NAME", "docker, oci: the manifest's (as it came); another one has another digest"),
            flag("quiet -q", "only the digest"),
        ),
        ("image copy",),
    ),
    Verb(
        "tags",
        "moving:tags",
        "REPOSITORY",
        "list the tags of a repository at its registry",
        (
            flag("digests", "also each one's digest"),
            number("limit", "at most so many (10000)"),
            FORMAT,
            flag("quiet -q", "only the tags"),
        ),
        ("search tags",),
    ),
    Verb(
        "manifest create",
        "moving:manifest_create",
        "NAME IMAGE...",
        "make an index of images for several platforms, of this host and of registries",
        (flag("amend -a", "add to one that is there"),),
    ),
    Verb(
        "manifest annotate",
        "moving:manifest_annotate",
        "NAME IMAGE",
        "say which platform an image of an index is for",
        (
            text("os", "NAME", "operating system"),
            text("arch", "NAME", "architecture"),
            text("variant", "NAME", "architecture's variant"),
            many("annotation", "KEY=VALUE", "an annotation"),
        ),
    ),
    Verb(
        "manifest inspect",
        "moving:manifest_inspect",
        "NAME",
        "show an index that was made here, or a manifest or an index at its registry",
        (flag("verbose -v", "each manifest of an index, and its descriptor"), flag("raw", "the very bytes")),
    ),
    Verb(
        "manifest push",
        "moving:manifest_push",
        "NAME",
        "push an index and all that is in it",
        (flag("purge -p", "remove it here afterwards"), flag("quiet -q", "only the digest"), flag("all", "accepted, and always so")),
    ),
    Verb("manifest rm", "moving:manifest_remove", "NAME...", "remove indexes that were made here"),
    Verb(
        "images",
        "images:images",
        "[REPOSITORY[:TAG]]",
        "list images",
        (flag("all -a", "accepted, and without effect"), flag("digests", "also the digests"), *LISTING),
        ("image ls", "image list"),
    ),
    Verb(
        "rmi",
        "images:remove",
        "IMAGE...",
        "remove images",
        (flag("force -f", "also where containers that do not run use it"),),
        ("image rm", "image remove"),
    ),
    Verb(
        "commit",
        "change:commit",
        "CONTAINER [NAME]",
        "make an image of what a container has changed",
        (
            text("author -a", "NAME", "the image's author"),
            CHANGE,
            text("message -m", "TEXT", "a comment, for the image's history"),
            flag("pause -p", "hold the container meanwhile (the default)"),
        ),
        ("container commit",),
    ),
    Verb("diff", "change:diff", "CONTAINER", "show what a container has added, changed and deleted", (), ("container diff",)),
    Verb("export", "change:export", "CONTAINER", "write a container's files to an archive", (OUTPUT,), ("container export",)),
    Verb("history", "change:history", "IMAGE", "show how an image came to be", (HUMAN, FORMAT, FULL, QUIET), ("image history",)),
    Verb("image flatten", "change:flatten", "IMAGE [NAME]", "merge layers into one that shows the same files", (KEEP,)),
    Verb("tag", "images:tag", "IMAGE NAME", "give an image another name", (), ("image tag",)),
    Verb(
        "load",
        "images:load",
        "",
        "load images from an archive",
        (text("input -i", "FILE", "archive or OCI layout (standard input)"), flag("quiet -q", "accepted, and without effect")),
        ("image load",),
    ),
    Verb(
        "import",
        "images:import_",
        "FILE|- [NAME]",
        "make an image of one layer from an archive of a root file system",
        (CHANGE, text("message -m", "TEXT", "a comment, for the image's history"), PLATFORM),
        ("image import",),
    ),
    Verb(
        "save",
        "images:save",
        "IMAGE...",
        "write images to an archive",
        (OUTPUT, text("format", "NAME", "docker-archive, oci-archive"), PLATFORM),
        ("image save",),
    ),
    Verb(
        "login",
        "login:login",
        "[REGISTRY]",
        "log in to a registry (docker.io), and store the login where it is right",
        (
            text("username -u", "NAME", "the name"),
            text("password -p", "PASSWORD", "the password, for everybody on this host to see: better use --password-stdin"),
            flag("password-stdin", "read the password from standard input"),
        ),
    ),
    Verb("logout", "login:logout", "[REGISTRY]", "forget the login for a registry (docker.io)"),
    Verb("policy check", "policy:check", "[FILE]", "read the host's policy, or a file that is to become it, and its keys"),
    Verb("policy show", "policy:show", "IMAGE", "show what the host's policy says of an image's name"),
    Verb("image inspect", "inspect:image", "IMAGE...", "show all that is known of images", (ONE_FORMAT,)),
    Verb("image prune", "prune:images", "", "remove images without a name", (flag("all -a", "all that no container uses"), *PRUNE)),
)

NETWORKS = (
    Verb(
        "network create",
        "networks:create",
        "NAME",
        "create a network",
        (
            text("driver -d", "NAME", "bridge, which is the only one"),
            many("subnet", "CIDR", "its addresses, IPv4 and IPv6; chosen if not given"),
            many("gateway", "ADDRESS", "the host's address in it, IPv4 and IPv6"),
            text("ip-range", "CIDR", "where addresses are chosen from"),
            flag("ipv6", "IPv6 as well"),
            flag("internal", "no way out of the host"),
            LABELS,
            many("opt -o", "KEY=VALUE", "option of the driver: com.docker.network.driver.mtu=1400"),
        ),
    ),
    Verb("network ls", "networks:ls", "", "list networks", LISTING, ("network list",)),
    Verb("network rm", "networks:remove", "NETWORK...", "remove networks", (FORCE,), ("network remove",)),
    Verb("network inspect", "inspect:network", "NETWORK...", "show all that is known of networks", (ONE_FORMAT,)),
    Verb(
        "network connect",
        "networks:connect",
        "NETWORK CONTAINER",
        "connect a container to a network",
        (
            many("alias", "NAME", "another name on this network"),
            text("ip", "ADDRESS", "its IPv4 address"),
            text("ip6", "ADDRESS", "its IPv6 address"),
        ),
    ),
    Verb(
        "network disconnect",
        "networks:disconnect",
        "NETWORK CONTAINER",
        "disconnect a container from a network",
        (flag("force -f", "accepted, and without effect"),),
    ),
    Verb("network prune", "prune:networks", "", "remove all networks that no container uses", PRUNE),
)

VOLUMES = (
    Verb(
        "volume create",
        "volumes:create",
        "[NAME]",
        "create a volume",
        (text("driver -d", "NAME", "local, which is the only one"), LABELS, many("opt -o", "KEY=VALUE", "type, device, o: a file system")),
    ),
    Verb("volume ls", "volumes:ls", "", "list volumes", (FILTER, FORMAT, QUIET), ("volume list",)),
    Verb(
        "volume rm",
        "volumes:remove",
        "VOLUME...",
        "remove volumes",
        (flag("force -f", "no error if it is not there"),),
        ("volume remove",),
    ),
    Verb("volume inspect", "inspect:volume", "VOLUME...", "show all that is known of volumes", (ONE_FORMAT,)),
    Verb(
        "volume prune",
        "prune:volumes",
        "",
        "remove anonymous volumes that no container uses",
        (flag("all -a", "also those with a name"), FORCE, many("filter", "KEY=VALUE", f"only those: {LABELLED}; all=true")),
    ),
)

SYSTEM = (
    Verb(
        "prune",
        "prune:system",
        "",
        "remove what is not used: containers, networks, images without a name, build cache",
        (flag("all -a", "all images that no container uses"), flag("volumes", "anonymous volumes, too"), *PRUNE),
        ("system prune",),
    ),
    Verb(
        "builder prune",
        "prune:builder",
        "",
        "remove what of the build cache no image has",
        (flag("all -a", "all of it"), FORCE, many("filter", "KEY=VALUE", "only what was not used since: until=TIME|DURATION")),
        ("buildx prune",),
    ),
    Verb(
        "system df",
        "usage:df",
        "",
        "show how much room everything takes, and how much of it nothing uses",
        (flag("verbose -v", "each thing by itself"), FORMAT, FULL),
    ),
    Verb("info", "system:info", "", "show the state and the host", (ONE_FORMAT,), ("system info",)),
    Verb("version", "system:version", "", "show the versions", (ONE_FORMAT,)),
    Verb(
        "plan",
        "declaration:plan",
        "[FILE...]",
        "show what `apply` would do",
        (
            flag("detailed-exitcode", "2 where something would change"),
            flag("remove-orphans", "containers no longer declared (the default)"),
            flag("absent", "what removing the project would do"),
            flag("volumes -v", "with --absent: its volumes, too"),
            *PROJECT,
        ),
    ),
    Verb(
        "apply",
        "declaration:apply",
        "[FILE...]",
        "converge this host to a Compose file",
        (
            flag("wait", "until all are running, or healthy"),
            text("wait-timeout", "SECONDS", "longest time to wait"),
            flag("remove-orphans", "remove containers that are no longer declared (the default)"),
            flag("absent", "remove the project instead; its volumes stay"),
            flag("volumes -v", "with --absent: its volumes, too"),
            *PROJECT,
        ),
    ),
    Verb("boot", "system:boot", "", "after a boot of the host: start the containers whose policy says so", hidden=True),
    Verb("shutdown", "system:shutdown", "", "before the host goes down: stop all containers", hidden=True),
    Verb("uninstall", "system:uninstall", "", "remove all of this state, and the runtime", UNINSTALL, hidden=True),
    Verb("_exited", "system:exited", "ID", "a monitor's last act", hidden=True),
    Verb("_restart", "system:restart", "ID [COUNT...]", "a monitor starts its container again", hidden=True),
    Verb("_health", "system:health", "ID", "one health check, for the monitor", hidden=True),
    Verb("_manual", "help:manual", "", "write docs/commands.md", hidden=True),
)

VERBS = (*CONTAINERS, *IMAGES, *NETWORKS, *VOLUMES, *SYSTEM)


def names() -> dict[str, Verb]:
    """All verbs by all their names."""
    return {name: verb for verb in VERBS for name in (verb.name, *verb.aliases)}
