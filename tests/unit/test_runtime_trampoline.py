from __future__ import annotations

import os
import pathlib
import platform
import re
import shutil
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
def test_the_machine_code_is_the_assembly_written_beside_it(machine: str, parts: tuple[str, ...], wire: int, tmp_path: pathlib.Path) -> None:
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


def emulated(machine: str, tmp_path: pathlib.Path, script: str, *, parts: tuple[str, ...], wire: int, opened: int) -> subprocess.CompletedProcess[str]:
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
