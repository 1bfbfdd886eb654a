from __future__ import annotations

import os
import pathlib
import platform
import re
import shutil
import socket
import struct
import subprocess

import pytest

from bayplan.kernel import machine_code, trampoline

PREFIXES = {"x86_64": "X86", "aarch64": "ARM"}
ENTER, TERMINAL = ("enter", "gate", "exec"), ("enter", "terminal", "gate", "init")
PROGRAMS = [("exec",), ("init",), ENTER, TERMINAL]
OBJDUMP = {"x86_64": ("objdump", "i386:x86-64"), "aarch64": ("aarch64-linux-gnu-objdump", "aarch64")}


def written(machine: str, parts: tuple[str, ...], wire: int) -> list[str]:
    source = pathlib.Path(machine_code.__file__).read_text()
    body = "\n".join(source.split(f"\n{PREFIXES[machine]}_{part.upper()} = (\n")[1].split("\n)\n")[0] for part in parts)
    lines = [line.split("#", 1)[1].split(";")[0] for line in body.splitlines() if '"' in line]
    return [normal(re.sub(r"(edi,|x0, )0x3$", rf"\g<1>{wire:#x}", line.strip())) for line in lines]


def normal(text: str) -> str:
    text = re.sub(
        r"\b(0x)?[0-9a-f]+ <[^>]*>|\b(child|wait|reap|exited|exit|gone|told|left|on)\b", "LABEL", text.split("//")[0].split(" # ")[0]
    )
    return re.sub(r"\s+", "", text.replace("#0x", "0x")).replace("#", "")


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("parts", PROGRAMS)
@pytest.mark.parametrize("wire", [3, 0x1234, 0xFFFF])
def test_the_machine_code_is_the_assembly_written_beside_it(
    machine: str, parts: tuple[str, ...], wire: int, tmp_path: pathlib.Path
) -> None:
    tool, architecture = OBJDUMP[machine]
    if not shutil.which(tool):
        pytest.skip(f"{tool} is not installed (Debian: binutils, binutils-aarch64-linux-gnu)")
    code = trampoline.program(machine, parts, wire=wire)[120:]
    (tmp_path / "code").write_bytes(code)
    command = [
        tool,
        "-D",
        "-b",
        "binary",
        "-m",
        architecture,
        *(["-M", "intel"] if machine == "x86_64" else []),
        "code",
    ]
    output = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    listed = [
        normal(line.split("\t")[-1] if machine == "x86_64" else " ".join(line.split("\t")[2:]))
        for line in output.splitlines()
        if re.match(r"^\s+[0-9a-f]+:\t", line) and line.count("\t") >= 2
    ]
    jumps = re.compile(r"^(j\w+|b|b\.\w+|cbz|tbn?z)")
    strip = [re.sub(r"(LABEL|0x[0-9a-f]+)$", "", line) if jumps.match(line) else line for line in listed]
    expected = [re.sub(r"(LABEL|0x[0-9a-f]+)$", "", line) if jumps.match(line) else line for line in written(machine, parts, wire)]
    assert strip == expected, "nobody needs to believe a byte of it"


def test_a_wire_that_an_instruction_cannot_load_is_refused() -> None:
    for machine in PREFIXES:
        with pytest.raises(OSError, match="descriptor 65536"):
            trampoline.program(machine, ("exec",), wire=1 << 16)


MACHINES = {
    "x86_64": () if platform.machine() == "x86_64" else ("qemu-x86_64-static",),
    "aarch64": () if platform.machine() == "aarch64" else ("qemu-aarch64-static",),
}


def emulated(
    machine: str, tmp_path: pathlib.Path, script: str, *, parts: tuple[str, ...], wire: int, opened: int
) -> subprocess.CompletedProcess[str]:
    """The program of `machine` run with /bin/sh as its program, and the descriptor `opened` open for an error."""
    emulator = MACHINES[machine]
    if emulator and not shutil.which(emulator[0]):
        pytest.skip(f"{emulator[0]} is not installed (Debian: qemu-user-static)")
    program = tmp_path / "program"
    program.write_bytes(trampoline.program(machine, parts, wire=wire))
    program.chmod(0o755)
    # argv[0] of the trampoline is the program, which a shell's `exec -a` gives
    start = [*emulator, *(["-0", "/bin/sh"] if emulator else [])]
    inner = " ".join(start) + f" {program}" if emulator else f"exec -a /bin/sh {program}"
    command = ["bash", "-c", f'{inner} sh -c "$0" {opened}>error', script]
    return subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, env={"A": "b", "PATH": os.environ["PATH"]}, check=False
    )


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("parts", PROGRAMS[:2])
@pytest.mark.parametrize("wire", [3, 9])
def test_the_program_runs_what_it_is_given(machine: str, parts: tuple[str, ...], wire: int, tmp_path: pathlib.Path) -> None:
    ended = emulated(machine, tmp_path, f"echo $0 $A; test -e /proc/self/fd/{wire} || exit 7", parts=parts, wire=wire, opened=wire)
    assert (ended.returncode, ended.stdout) == (7, "sh b\n"), "arguments, environment and status arrive, and the wire is closed"


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("parts", PROGRAMS)
def test_the_program_without_its_wire_runs_nothing(machine: str, parts: tuple[str, ...], tmp_path: pathlib.Path) -> None:
    ended = emulated(machine, tmp_path, "echo ran", parts=parts, wire=9, opened=8)
    assert (ended.returncode, ended.stdout) == (127, ""), "an image that executes it once more gets nothing"


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_a_program_as_process_1_ends_as_the_signal_that_ended_its_child_says(machine: str, tmp_path: pathlib.Path) -> None:
    ended = emulated(machine, tmp_path, "kill -TERM $$", parts=("init",), wire=5, opened=5)
    assert ended.returncode == 128 + 15, "128 and the signal"


PARENT = {"x86_64": (b"\xbf\x11\x80\0\0", b"\xbf\x11\0\0\0"), "aarch64": (b"\x20\x02\x90\xd2", b"\x20\x02\x80\xd2")}


def entering(machine: str, tmp_path: pathlib.Path, word: str, said: bytes, *, parts: tuple[str, ...] = ENTER) -> list[bytes]:
    """What the program says on its wire while it brings /bin/sh in, told `said` at the gate; last the output of the child."""
    emulator = MACHINES[machine]
    if emulator and not shutil.which(emulator[0]):
        pytest.skip(f"{emulator[0]} is not installed (Debian: qemu-user-static)")
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    reader, writer = os.pipe()
    code = trampoline.program(machine, parts, wire=theirs.fileno())
    (tmp_path / "program").write_bytes(code.replace(*PARENT[machine]) if emulator else code)  # the emulator does not know CLONE_PARENT
    (tmp_path / "program").chmod(0o755)
    start = [*emulator, *(["-0", "/bin/sh"] if emulator else [])]
    argv = [*start, str(tmp_path / "program"), "sh", "-c", word] if emulator else ["/bin/sh", "sh", "-c", word]
    path = shutil.which(emulator[0]) if emulator else str(tmp_path / "program")
    with ours, subprocess.Popen(argv, executable=path, pass_fds=[theirs.fileno()], stdout=writer, stdin=subprocess.DEVNULL) as between:
        theirs.close()
        os.close(writer)
        messages = [ours.recv(64)]
        assert between.wait(20) == 0, "the one between ends at once, and well"
        ours.send(said)
        while message := ours.recv(64):
            messages.append(message)
    with open(reader, "rb") as output:
        messages.append(output.read())
    if not emulator:
        os.waitpid(struct.unpack("=Q", messages[0])[0], 0)
    return messages


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("parts", [ENTER, ("enter", "gate", "init"), ("enter", "terminal", "gate", "exec")])
def test_who_enters_is_a_child_of_the_same_parent_in_a_session_of_its_own(
    machine: str, parts: tuple[str, ...], tmp_path: pathlib.Path
) -> None:
    script = "echo $PPID $(cut -d' ' -f6 /proc/self/stat)"
    told, output = entering(machine, tmp_path, script, b"G", parts=parts)
    pid = struct.unpack("=Q", told)[0]
    parent, session = (int(word) for word in output.split())
    assert session == pid, "a session of its own, whose number the wire has told"
    if not MACHINES[machine] and "init" not in parts:
        assert parent == os.getpid(), "our child, not the child of the one between, which has ended"


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("said", [b"X", b"R"])
def test_nothing_runs_that_was_not_let_through_the_gate(machine: str, said: bytes, tmp_path: pathlib.Path) -> None:
    told, output = entering(machine, tmp_path, "echo ran", said)
    assert len(told) == 8 and output == b"", "it ends"


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_a_program_that_cannot_be_executed_is_told_after_the_gate(machine: str, tmp_path: pathlib.Path) -> None:
    if MACHINES[machine]:
        pytest.skip("the emulator takes the program's name from its own command line")
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    (tmp_path / "program").write_bytes(trampoline.program(machine, ENTER, wire=theirs.fileno()))
    (tmp_path / "program").chmod(0o755)
    with ours, subprocess.Popen(["/nothing", "x"], executable=str(tmp_path / "program"), pass_fds=[theirs.fileno()]):
        theirs.close()
        pid = struct.unpack("=Q", ours.recv(64))[0]
        ours.send(b"G")
        assert ours.recv(64) == struct.pack("=I", 2), "ENOENT, in four bytes"
        assert os.waitpid(pid, 0)[1] == 127 << 8

