from __future__ import annotations

import pathlib
import re
import shutil
import subprocess

import pytest

from bayplan.kernel import trampoline

TABLES = {"x86_64": ("_X86_EXEC", "_X86_INIT"), "aarch64": ("_ARM_EXEC", "_ARM_INIT")}
OBJDUMP = {"x86_64": ("objdump", "i386:x86-64"), "aarch64": ("aarch64-linux-gnu-objdump", "aarch64")}


def written(machine: str, init: bool) -> list[str]:
    source = pathlib.Path(trampoline.__file__).read_text()
    body = source.split(f"\n{TABLES[machine][init]} = (\n")[1].split("\n)\n")[0]
    lines = [line.split("#", 1)[1].split(";")[0] for line in body.splitlines() if '"' in line]
    return [normal(line) for line in lines]


def normal(text: str) -> str:
    text = re.sub(
        r"\b(0x)?[0-9a-f]+ <[^>]*>|\b(child|wait|reap|exited|exit|gone)\b", "LABEL", text.split("//")[0].split(" # ")[0]
    )
    return re.sub(r"\s+", "", text.replace("#0x", "0x")).replace("#", "")


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("init", [False, True])
def test_the_machine_code_is_the_assembly_written_beside_it(machine: str, init: bool, tmp_path: pathlib.Path) -> None:
    tool, architecture = OBJDUMP[machine]
    if not shutil.which(tool):
        pytest.skip(f"{tool} is not installed (Debian: binutils, binutils-aarch64-linux-gnu)")
    code = trampoline.program(machine, init=init)[120:]
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
    jumps = re.compile(r"^(j\w+|b|b\.\w+|cbz|tbnz)")
    strip = [re.sub(r"(LABEL|0x[0-9a-f]+)$", "", line) if jumps.match(line) else line for line in listed]
    expected = [
        re.sub(r"(LABEL|0x[0-9a-f]+)$", "", line) if jumps.match(line) else line for line in written(machine, init)
    ]
    assert strip == expected, "nobody needs to believe a byte of it"


@pytest.mark.parametrize("init", [False, True])
def test_the_aarch64_program_runs_under_emulation(init: bool, tmp_path: pathlib.Path) -> None:
    if not shutil.which("qemu-aarch64-static"):
        pytest.skip("qemu-aarch64-static is not installed (Debian: qemu-user-static)")
    program = tmp_path / "program"
    program.write_bytes(trampoline.program("aarch64", init=init))
    program.chmod(0o755)
    command = ["qemu-aarch64-static", "-0", "/bin/sh", str(program), "sh", "-c", "echo $0 $A; exit 7"]
    command = ["sh", "-c", 'exec "$@" 3>/dev/null', "sh", *command]  # the descriptor for an error
    ended = subprocess.run(
        command, capture_output=True, text=True, env={"A": "b", "PATH": "/usr/bin:/bin"}, check=False
    )
    assert (ended.returncode, ended.stdout) == (7, "sh b\n"), "arguments, environment and status arrive"
