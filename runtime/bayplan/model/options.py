"""The options of Ansible's modules and pyinfra's operations: one table, from which documentation and validation both come.

Types are Ansible's names (str, int, float, bool, list, dict, path, raw). An option that is left out has Compose's default; a
default is named here only where the door itself decides it. What Compose writes in several shapes has the type raw and is
parsed where every Compose document is.
"""

from __future__ import annotations

from bayplan.model import image_options
from bayplan.model.container_options import SERVICE
from bayplan.model.option import Option
from bayplan.model.value import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Any

ROOT = Option("root", "str", "The state directory on the host. Another one is another, independent set of everything.", default="/var/lib/bayplan")
NAMES = Option("names", "list", "Names of what to tell about; all if left out.", elements="str", aliases=("name",))
REGISTRY_AUTH = Option(
    "registry_auth",
    "dict",
    "Credentials for a registry. They are used for this call and stored nowhere.",
    options=(
        Option("registry", "str", "The registry that they are for; the image's own if left out."),
        Option("username", "str", "The user.", required=True),
        Option("password", "str", "The password or token.", required=True, no_log=True),
    ),
)
WAIT = Option("wait", "bool", "Wait until what was started is running, and healthy where it has a health check.")
WAIT_TIMEOUT = Option("wait_timeout", "str", "How long to wait, as a number of seconds or a duration such as C(2m).", default="2m")
LABELS = Option("labels", "raw", "Labels, as a mapping or as a list of C(KEY=VALUE).")
DRIVER_OPTS = Option("driver_opts", "dict", "Options of the driver.")


def states(*choices: str, default: str, text: str) -> Option:
    return Option("state", "str", text, choices=choices, default=default)


IMAGE = (
    Option("name", "str", "The image's reference, such as C(docker.io/library/nginx:1.27) or C(registry.example:5000/app@sha256:...).", required=True),
    states("present", "absent", default="present", text="Whether the image is on the host."),
    Option("pull", "str", "When to ask the registry.", choices=("missing", "always", "never"), default="missing"),
    Option("archive", "path", "An archive on the controller (docker-archive, oci-archive) that holds the image. It is carried to the host only if the host has no such image; no registry is asked."),
    Option("remote_archive", "path", "The same, of an archive or OCI layout that is already on the host."),
    Option("tags", "list", "Further names for the image.", elements="str", aliases=("tag",)),
    Option("platform", "str", "The platform to choose of an index, such as C(linux/arm64); the host's own if left out."),
    Option("force", "bool", "Remove the name even where containers were made from the image."),
    REGISTRY_AUTH,
    ROOT,
)

NETWORK = (
    Option("name", "str", "The network's name.", required=True),
    states("present", "absent", default="present", text="Whether the network exists."),
    Option("driver", "str", "The driver.", choices=("bridge",)),
    Option("subnet", "str", "The network's addresses, such as C(10.5.0.0/24); chosen if left out."),
    Option("gateway", "str", "The host's address in the network; the first one if left out."),
    Option("ip_range", "str", "The part of the subnet that addresses are leased from."),
    Option("ipam", "dict", "The same as Compose writes it.", options=(
        Option("driver", "str", "Always C(default)."),
        Option("config", "list", "One entry for IPv4 and one for IPv6.", elements="dict", options=(
            Option("subnet", "str", "The addresses."),
            Option("gateway", "str", "The host's address."),
            Option("ip_range", "str", "What is leased."),
        )),
    )),
    Option("enable_ipv6", "bool", "Give containers IPv6 addresses as well."),
    Option("internal", "bool", "Let nothing of it reach the outside."),
    LABELS,
    DRIVER_OPTS._replace(description="Options of the driver, such as C(com.docker.network.driver.mtu)."),
    ROOT,
)  # fmt: skip

VOLUME = (
    Option("name", "str", "The volume's name.", required=True),
    states("present", "absent", default="present", text="Whether the volume exists. It is removed with its data."),
    Option("driver", "str", "The driver.", choices=("local",)),
    DRIVER_OPTS._replace(description="What to mount: C(type), C(o) and C(device), as for mount(8). A change of it is an error, never a new volume."),
    LABELS,
    ROOT,
)

STACK = (
    Option("definition", "dict", "A Compose document, written in the playbook. C(ports) must be quoted there: YAML 1.1 reads C(22:22) as a number."),
    Option("files", "list", "Compose files on the controller, merged in this order.", elements="path"),
    Option("project_name", "str", "The project's name; the document's C(name) if left out, or the first file's directory."),
    Option("project_directory", "str", "A directory on the host that relative bind mounts are taken from. Without it they are an error."),
    Option("profiles", "list", "Profiles to switch on.", elements="str"),
    Option("environment", "dict", "Variables for C(${VAR}), before the controller's environment and C(.env)."),
    states("present", "absent", default="present", text="Whether the project exists. Its volumes stay unless O(remove_volumes)."),
    Option("remove_volumes", "bool", "With O(state=absent), remove the project's volumes with their data."),
    Option("remove_orphans", "bool", "Remove containers and networks of the project that the document does not name.", default=True),
    WAIT,
    WAIT_TIMEOUT,
    REGISTRY_AUTH,
    ROOT,
)

CONTAINER = (
    Option("name", "str", "The container's name.", required=True),
    states("present", "started", "stopped", "absent", default="started",
           text="C(present) creates the container and leaves its running alone. C(started), C(stopped) and C(absent) need only the name."),
    Option("image", "str", "The image's reference."),
    Option("pull", "str", "When to ask the registry.", choices=("missing", "always", "never"), aliases=("pull_policy",)),
    Option("recreate", "str", "Whether to replace the container: where a change needs it, at every run, or never (with a warning).",
           choices=("auto", "always", "never"), default="auto"),
    Option("ignore", "list", "Compose keys whose present value is left alone.", elements="str"),
    Option("restart", "raw", "C(true) restarts the container in this run. A string is Compose's restart policy, as O(restart_policy)."),
    Option("restart_policy", "str", "C(no), C(always), C(unless-stopped), C(on-failure) or C(on-failure:N)."),
    Option("force", "bool", "Take the name over from another project's container."),
    Option("auto_remove", "bool", "Remove the container when it ends."),
    Option("profile", "str", "C(strict) sets no_new_privs, mounts the root file system nosuid and grants fewer capabilities.", choices=("default", "strict")),
    Option("systemd", "str", "Whether it is prepared for systemd as its first process: C(auto) where its command is an init's path.",
           choices=("auto", "always", "false")),
    *SERVICE,
    WAIT,
    WAIT_TIMEOUT,
    REGISTRY_AUTH,
    ROOT,
)  # fmt: skip

class Action(NamedTuple):
    """A module that has the host do one thing: the request's verb, the options, and what its result is called."""

    verb: str
    options: tuple[Option, ...]
    result: str


ACTIONS = {
    "image_build": Action("build", (*image_options.BUILD, ROOT), "image"),
    "image_copy": Action("copy", (*image_options.COPY, ROOT), "copied"),
    "image_load": Action("load", (*image_options.LOAD, ROOT), "images"),
    "image_prune": Action("prune", (*image_options.PRUNE, ROOT), "pruned"),
    "image_push": Action("push", (*image_options.PUSH, REGISTRY_AUTH, ROOT), "pushed"),
    "image_save": Action("save", (*image_options.SAVE, ROOT), "archive"),
    "image_tag": Action("tag", (*image_options.TAG, ROOT), "image"),
    "registry_login": Action("login", (*image_options.LOGIN, ROOT), "login"),
}
KINDS = {"image": IMAGE, "container": CONTAINER, "network": NETWORK, "volume": VOLUME, "stack": STACK}
INFO = (NAMES, ROOT)


def module_options(name: str) -> tuple[Option, ...]:
    """The options of a module by its name: `container`, `container_info`, `image_build`."""
    if name in ACTIONS:
        return ACTIONS[name].options
    return INFO if name.endswith("_info") else KINDS[name]


def argument_spec(options: tuple[Option, ...]) -> dict[str, dict[str, Any]]:
    """The table as Ansible's argument_spec."""
    return {option.name: _argument(option) for option in options}


def _argument(option: Option) -> dict[str, Any]:
    spec: dict[str, Any] = {"type": option.type}
    given: dict[str, object | None] = {
        "elements": option.elements,
        "choices": list(option.choices),
        "aliases": list(option.aliases),
        "required": option.required,
        "options": argument_spec(option.options),
    }
    spec.update({key: value for key, value in given.items() if value})
    if option.default is not None:
        spec["default"] = option.default
    if option.no_log:
        spec["no_log"] = True
    return spec
