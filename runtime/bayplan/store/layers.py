"""Unpacked layers: keyed by their own diff_id, independent of each other, stacked by overlayfs.

    layers/HEX/diff        the tree, with overlay's whiteouts
    layers/HEX/link        a link whose text is the short name, and what is special: `1a2b3c4d`, `1a2b3c4d+i`, `+o`, `+io`
    layers/HEX/size        how many bytes its plain archive had
    layers/HEX/implied     with `+i`: the directories that its archive only implies, as JSON
    chains/HEX/...         the same, for attributes of such directories (see `complete`)
    l/1a2b3c4d             a link to ../layers/HEX/diff, since mount(2) takes one page of options

Overlay takes a directory's attributes from the topmost layer that has it. A layer that holds tmp/x but not tmp would
make /tmp 0755, so between it and the next one comes a layer that has nothing but tmp, as the parents below have it. That
depends on the parents, so it is keyed by the chain_id (OCI image-spec 1.1 config.md, "Layer ChainID").
"""

from __future__ import annotations

import os
import stat

from bayplan.errors import Invalid, NotFound
from bayplan.model import jsontext
from bayplan.model.digest import Digest
from bayplan.store.root import StateRoot

OVERLAY_OPTIONS = ("redirect_dir=off", "metacopy=off", "index=off")
_IMPLIES, _HIDES_ALL = "i", "o"
_NOTHING = "-"
_OPAQUE = "trusted.overlay.opaque"


def exists(root: StateRoot, diff_id: Digest) -> bool:
    return os.path.lexists(f"{root.layer(diff_id)}/link")


def lowerdirs(root: StateRoot, diff_ids: tuple[Digest, ...]) -> tuple[str, ...]:
    """The image's layers as overlay's lowerdir wants them, top first, relative to `root.path`: ("l/1a2b3c4d", ...).

    `diff_ids` is the config's order, lowest first. One that comes twice is there once, where it is highest: what it
    does lower down is done again above, and overlay refuses the same directory twice. Raises NotFound for a layer that
    is not there. An image without layers has no lowerdirs.
    """
    found: list[str] = []
    seen: set[Digest] = set()
    for position in range(len(diff_ids) - 1, -1, -1):
        diff_id = diff_ids[position]
        if diff_id in seen:
            continue
        seen.add(diff_id)
        found += lowerdirs_of_last(root, diff_ids[: position + 1])
        if hides_all(root, diff_id):
            break
    return tuple(found)


def lowerdirs_of_last(root: StateRoot, diff_ids: tuple[Digest, ...]) -> list[str]:
    """Those that the last of the layers adds to the others, top first: its own, beneath attributes that it leaves to them."""
    name, flags = _link(root, diff_ids[-1])
    return [*(_attributes_above(root, diff_ids) if _IMPLIES in flags else ()), f"l/{name}"]


def _link(root: StateRoot, diff_id: Digest) -> tuple[str, str]:
    try:
        name, _, flags = os.readlink(f"{root.layer(diff_id)}/link").partition("+")
    except FileNotFoundError:
        raise NotFound(f"stacking an image's layers: {diff_id} is not in the store; pull the image again") from None
    return name, flags


def _attributes_above(root: StateRoot, chain: tuple[Digest, ...]) -> list[str]:
    try:
        name = os.readlink(f"{root.chain(chain_id(chain))}/link")
    except FileNotFoundError:
        raise NotFound("stacking an image's layers: it was never completed; pull the image again") from None
    return [] if name == _NOTHING else [f"l/{name}"]


def chain_id(diff_ids: tuple[Digest, ...]) -> Digest:
    """The name of a stack of layers, lowest first; there is at least one."""
    return chain_ids(diff_ids)[-1]


def chain_ids(diff_ids: tuple[Digest, ...]) -> tuple[Digest, ...]:
    """The names of the stacks that end with each of the layers, lowest first."""
    import hashlib

    found = list(diff_ids[:1])
    for diff_id in diff_ids[1:]:
        found.append(Digest("sha256", hashlib.sha256(f"{found[-1]} {diff_id}".encode()).hexdigest()))
    return tuple(found)


def describe(root: StateRoot, directory: str, diff_id: Digest, *, size: int, implied: tuple[str, ...], opaque: bool) -> None:
    """Write what is known about a layer into `directory`, which holds its tree as `diff` and is not in place yet."""
    name = _short_name(root, diff_id.hex, f"../layers/{diff_id.hex}/diff")
    with open(f"{directory}/size", "w", encoding="utf-8") as file:
        file.write(f"{size}\n")
    if implied:
        _write_json(f"{directory}/implied", implied)
    flags = (_IMPLIES if implied else "") + (_HIDES_ALL if opaque else "")
    os.symlink(f"{name}+{flags}" if flags else name, f"{directory}/link")


def _write_json(path: str, names: tuple[str, ...]) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(jsontext.dumps(names))


def commit(root: StateRoot, directory: str, diff_id: Digest) -> None:
    """Give a described layer, already written to the disk, its name in the store."""
    _commit(directory, root.layer(diff_id))


def _commit(directory: str, final: str) -> None:
    os.chmod(directory, 0o700)
    os.rename(directory, final)
    parent = os.open(os.path.dirname(final), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)


def _short_name(root: StateRoot, digits: str, target: str) -> str:
    """A name in l/ for `target`: as many of the digits as make it nobody else's, at least eight."""
    for length in range(8, len(digits) + 1, 2):
        path = f"{root.links}/{digits[:length]}"
        try:
            os.symlink(target, path)
        except FileExistsError:
            if os.readlink(path) != target:
                continue
        return digits[:length]
    raise AssertionError("two digests with the same digits")


def listed(root: StateRoot) -> tuple[Digest, ...]:
    """Every unpacked layer, for a sweep."""
    try:
        names = os.listdir(root.layers)
    except FileNotFoundError:
        return ()
    return tuple(sorted(Digest("sha256" if len(name) == 64 else "sha512", name) for name in names))


def size(root: StateRoot, diff_id: Digest) -> int:
    """How many bytes the layer's plain archive had; raises NotFound."""
    try:
        with open(f"{root.layer(diff_id)}/size", encoding="utf-8") as file:
            return int(file.read())
    except FileNotFoundError:
        raise NotFound(f"looking at the layer {diff_id}: it is not in the store; pull the image again") from None


def hides_all(root: StateRoot, diff_id: Digest) -> bool:
    """Whether the layer's root is opaque; raises NotFound."""
    return _HIDES_ALL in _link(root, diff_id)[1]


def remove(root: StateRoot, diff_id: Digest) -> None:
    """Remove a layer that no image and no container uses; one that is not there is no error."""
    _remove(root, root.layer(diff_id))


def remove_chain(root: StateRoot, chain: Digest) -> None:
    _remove(root, root.chain(chain))


def _remove(root: StateRoot, directory: str) -> None:
    from bayplan.store.trees import remove_tree

    try:
        name = os.readlink(f"{directory}/link").partition("+")[0]
    except FileNotFoundError:
        name = _NOTHING
    remove_tree(directory, scratch=root.staging)
    if name != _NOTHING:
        os.unlink(f"{root.links}/{name}")


def remove_dangling_links(root: StateRoot) -> int:
    """Remove short names whose layer never came into place, its maker killed; how many went. No layer is being made now."""
    gone = 0
    for name in os.listdir(root.links) if root.exists() else ():
        if not os.path.exists(f"{root.links}/{name}"):
            os.unlink(f"{root.links}/{name}")
            gone += 1
    return gone


def complete(root: StateRoot, diff_ids: tuple[Digest, ...]) -> None:
    """Make what `lowerdirs` needs besides the layers themselves; everything may be there already.

    All layers are there. Raises OSError; what was made by then is whole, and complete() goes on from it.
    """
    for position, diff_id in enumerate(diff_ids):
        if _IMPLIES in _link(root, diff_id)[1]:
            chain = diff_ids[: position + 1]
            if not os.path.lexists(f"{root.chain(chain_id(chain))}/link"):
                _complete_chain(root, chain)


def _complete_chain(root: StateRoot, chain: tuple[Digest, ...]) -> None:
    from bayplan.store.native import syncfs
    from bayplan.store.staging import claimed

    name = chain_id(chain)
    with claimed(root, f"chain-{name.hex}") as directory:
        if os.path.lexists(root.chain(name)):
            return
        os.mkdir(f"{directory}/chain", 0o700)
        os.mkdir(f"{directory}/chain/diff", 0o755)
        if _make_attributes(root, chain, f"{directory}/chain/diff"):
            link = _short_name(root, name.hex, f"../chains/{name.hex}/diff")
        else:
            link = _NOTHING
        os.symlink(link, f"{directory}/chain/link")
        opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            syncfs(opened)
        finally:
            os.close(opened)
        _commit(f"{directory}/chain", root.chain(name))


def _make_attributes(root: StateRoot, chain: tuple[Digest, ...], target: str) -> bool:
    """Make the directories that the chain's last layer implies and its parents have; says whether there are any."""
    own = root.layer_tree(chain[-1])
    below = [(root.layer_tree(each), _implied(root, each), _link(root, each)[1]) for each in reversed(chain[:-1])]
    found = {path: source for path in sorted(_implied(root, chain[-1])) if (source := _inherited(below, path))}
    copy_attributes(own, target)  # the root's, which this layer would hide otherwise
    for path in found:
        parts = path.split("/")
        for prefix in ("/".join(parts[:count]) for count in range(1, len(parts) + 1)):
            if not os.path.lexists(f"{target}/{prefix}"):
                os.mkdir(f"{target}/{prefix}")
    for path in sorted(_directories(found), reverse=True):  # the deepest first, so that times stay
        copy_attributes(found.get(path, f"{own}/{path}"), f"{target}/{path}")
    return bool(found)


def _directories(paths: dict[str, str]) -> set[str]:
    return {"/".join(path.split("/")[:count]) for path in paths for count in range(1, path.count("/") + 2)}


def _implied(root: StateRoot, diff_id: Digest) -> frozenset[str]:
    try:
        with open(f"{root.layer(diff_id)}/implied", encoding="utf-8") as file:
            return frozenset(jsontext.loads(file.read()))
    except FileNotFoundError:
        return frozenset()


def _inherited(below: list[tuple[str, frozenset[str], str]], path: str) -> str | None:
    """Where, in the layers below, top first, the directory `path` has its attributes; None if it is not there."""
    for tree, implied, flags in below:
        there, covered = _look(tree, path)
        if there and path not in implied:
            return f"{tree}/{path}"
        if covered or _HIDES_ALL in flags:
            return None
    return None


def _look(tree: str, path: str) -> tuple[bool, bool]:
    """Whether the tree has the directory `path`, and whether it hides what layers below have there."""
    covered = False
    at = tree
    for part in path.split("/"):
        at = f"{at}/{part}"
        try:
            found = os.lstat(at)
        except FileNotFoundError:
            return False, covered
        if not stat.S_ISDIR(found.st_mode):
            return False, True  # a whiteout, or something that is no directory
        covered = covered or _is_opaque(at)
    return True, covered


def _is_opaque(path: str) -> bool:
    try:
        return os.getxattr(path, _OPAQUE, follow_symlinks=False) == b"y"
    except OSError:
        return False


def copy_attributes(source: str, target: str) -> None:
    found = os.lstat(source)
    os.chown(target, found.st_uid, found.st_gid, follow_symlinks=False)
    os.chmod(target, stat.S_IMODE(found.st_mode))
    for name in os.listxattr(source, follow_symlinks=False):
        if not name.startswith("trusted.overlay."):
            os.setxattr(target, name, os.getxattr(source, name, follow_symlinks=False), follow_symlinks=False)
    os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns), follow_symlinks=False)


def check_diff_id(found: Digest, wanted: Digest) -> None:
    """Raise Invalid unless an unpacked layer is the one that the image's config names."""
    if found != wanted:
        raise Invalid(f"unpacking a layer: its content is {found}, and the image's config says {wanted}")


def driver(root: StateRoot) -> str:
    """How root file systems are made here; found out once, by trying, and then kept in a file. Raises as drivers.chosen does."""
    from bayplan.store import drivers

    return drivers.chosen(root)
