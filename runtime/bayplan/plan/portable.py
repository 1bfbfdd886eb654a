"""A bundle that any OCI runtime can run: what only ours knows is said in the specification's words. Pure."""

from __future__ import annotations

from bayplan.model.runtime import Capabilities, Config, Seccomp, User

VERSION = "1.0.2"  # of the specification; crun 1.8 takes none but 1.0, and what it does not know of a later one is not said here


def portable(
    config: Config,
    *,
    rootfs: str,
    cgroups_path: str,
    user: User,
    env: tuple[str, ...],
    given: frozenset[str],
    seccomp: Seccomp | None,
) -> Config:
    """`config` with `rootfs` as its root, and with the identity and environment that its files make of it.

    `given` are the capabilities that there are to give: others would be an error of the kernel's, not a warning. The domain name is a
    sysctl, which is older than the specification's own word for it. `seccomp` is the profile in full.
    """
    linux, process = config.linux, config.process
    domain = (("kernel.domainname", config.domainname),) if config.domainname else ()
    capabilities = Capabilities(*(tuple(name for name in names if name in given) for names in process.capabilities))
    return config._replace(
        process=process._replace(user=user, env=env, capabilities=capabilities),
        root=config.root._replace(path=rootfs),
        domainname="",
        linux=linux._replace(cgroups_path=cgroups_path, sysctl=(*linux.sysctl, *domain), seccomp=seccomp),
    )
