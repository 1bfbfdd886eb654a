"""The machine code of trampoline.py's programs, in parts that follow each other: no jump leaves a part but to its very end.

Every line is one instruction with its assembly, as objdump prints it, for a wire of 3; a test disassembles them and compares.
"""

from __future__ import annotations

X86_EXEC = (
    "bf03000000",  # mov edi,0x3
    "be02000000",  # mov esi,0x2
    "ba01000000",  # mov edx,0x1
    "b848000000",  # mov eax,0x48  ; fcntl F_SETFD
    "0f05",  # syscall
    "85c0",  # test eax,eax
    "7831",  # js gone
    "488b0c24",  # mov rcx,QWORD PTR [rsp]
    "488b7c2408",  # mov rdi,QWORD PTR [rsp+0x8]
    "488d742410",  # lea rsi,[rsp+0x10]
    "488d54cc10",  # lea rdx,[rsp+rcx*8+0x10]
    "b83b000000",  # mov eax,0x3b  ; execve
    "0f05",  # syscall
    "f7d8",  # neg eax
    "50",  # push rax
    "bf03000000",  # mov edi,0x3
    "4889e6",  # mov rsi,rsp
    "ba04000000",  # mov edx,0x4
    "b801000000",  # mov eax,0x1  ; write
    "0f05",  # syscall
    # gone:
    "bf7f000000",  # mov edi,0x7f
    "b8e7000000",  # mov eax,0xe7  ; exit_group
    "0f05",  # syscall
)

X86_INIT = (
    "bf03000000",  # mov edi,0x3
    "be02000000",  # mov esi,0x2
    "ba01000000",  # mov edx,0x1
    "b848000000",  # mov eax,0x48  ; fcntl F_SETFD
    "0f05",  # syscall
    "85c0",  # test eax,eax
    "0f881c010000",  # js gone
    "4889e3",  # mov rbx,rsp
    "6aff",  # push 0xffffffffffffffff
    "4989e4",  # mov r12,rsp
    "4883ec10",  # sub rsp,0x10
    "bf02000000",  # mov edi,0x2
    "4c89e6",  # mov rsi,r12
    "31d2",  # xor edx,edx
    "41ba08000000",  # mov r10d,0x8
    "b80e000000",  # mov eax,0xe  ; rt_sigprocmask
    "0f05",  # syscall
    "b839000000",  # mov eax,0x39  ; fork
    "0f05",  # syscall
    "85c0",  # test eax,eax
    "747b",  # je child
    "89c5",  # mov ebp,eax
    "bf03000000",  # mov edi,0x3
    "b803000000",  # mov eax,0x3  ; close
    "0f05",  # syscall
    # wait:
    "4c89e7",  # mov rdi,r12
    "31f6",  # xor esi,esi
    "31d2",  # xor edx,edx
    "41ba08000000",  # mov r10d,0x8
    "b880000000",  # mov eax,0x80  ; rt_sigtimedwait
    "0f05",  # syscall
    "85c0",  # test eax,eax
    "78e8",  # js wait
    "83f811",  # cmp eax,0x11
    "740d",  # je reap
    "89ef",  # mov edi,ebp
    "89c6",  # mov esi,eax
    "b83e000000",  # mov eax,0x3e  ; kill
    "0f05",  # syscall
    "ebd6",  # jmp wait
    # reap:
    "48c7c7ffffffff",  # mov rdi,0xffffffffffffffff
    "4889e6",  # mov rsi,rsp
    "ba01000000",  # mov edx,0x1
    "4531d2",  # xor r10d,r10d
    "b83d000000",  # mov eax,0x3d  ; wait4
    "0f05",  # syscall
    "85c0",  # test eax,eax
    "7eb9",  # jle wait
    "39e8",  # cmp eax,ebp
    "75df",  # jne reap
    "8b3c24",  # mov edi,DWORD PTR [rsp]
    "89f8",  # mov eax,edi
    "83e07f",  # and eax,0x7f
    "7408",  # je exited
    "8db880000000",  # lea edi,[rax+0x80]
    "eb09",  # jmp exit
    # exited:
    "c1ef08",  # shr edi,0x8
    "81e7ff000000",  # and edi,0xff
    # exit:
    "b8e7000000",  # mov eax,0xe7  ; exit_group
    "0f05",  # syscall
    # child:
    "31ff",  # xor edi,edi
    "31f6",  # xor esi,esi
    "b86d000000",  # mov eax,0x6d  ; setpgid
    "0f05",  # syscall
    "b827000000",  # mov eax,0x27  ; getpid
    "0f05",  # syscall
    "890424",  # mov DWORD PTR [rsp],eax
    "31ff",  # xor edi,edi
    "be10540000",  # mov esi,0x5410
    "4889e2",  # mov rdx,rsp
    "b810000000",  # mov eax,0x10  ; ioctl TIOCSPGRP
    "0f05",  # syscall
    "bf02000000",  # mov edi,0x2
    "49c7042400000000",  # mov QWORD PTR [r12],0x0
    "4c89e6",  # mov rsi,r12
    "31d2",  # xor edx,edx
    "41ba08000000",  # mov r10d,0x8
    "b80e000000",  # mov eax,0xe  ; rt_sigprocmask
    "0f05",  # syscall
    "488b0b",  # mov rcx,QWORD PTR [rbx]
    "488b7b08",  # mov rdi,QWORD PTR [rbx+0x8]
    "488d7310",  # lea rsi,[rbx+0x10]
    "488d54cb10",  # lea rdx,[rbx+rcx*8+0x10]
    "b83b000000",  # mov eax,0x3b  ; execve
    "0f05",  # syscall
    "f7d8",  # neg eax
    "50",  # push rax
    "bf03000000",  # mov edi,0x3
    "4889e6",  # mov rsi,rsp
    "ba04000000",  # mov edx,0x4
    "b801000000",  # mov eax,0x1  ; write
    "0f05",  # syscall
    # gone:
    "bf7f000000",  # mov edi,0x7f
    "b8e7000000",  # mov eax,0xe7  ; exit_group
    "0f05",  # syscall
)

X86_ENTER = (
    "bf03000000",  # mov edi,0x3
    "be01000000",  # mov esi,0x1
    "b848000000",  # mov eax,0x48  ; fcntl F_GETFD
    "0f05",  # syscall
    "85c0",  # test eax,eax
    "7841",  # js gone
    "bf11800000",  # mov edi,0x8011
    "31f6",  # xor esi,esi
    "31d2",  # xor edx,edx
    "4531d2",  # xor r10d,r10d
    "4531c0",  # xor r8d,r8d
    "b838000000",  # mov eax,0x38  ; clone CLONE_PARENT|SIGCHLD
    "0f05",  # syscall
    "85c0",  # test eax,eax
    "7433",  # je child
    "ba08000000",  # mov edx,0x8
    "7907",  # jns told
    "f7d8",  # neg eax
    "ba04000000",  # mov edx,0x4
    # told:
    "50",  # push rax
    "bf03000000",  # mov edi,0x3
    "4889e6",  # mov rsi,rsp
    "b801000000",  # mov eax,0x1  ; write
    "0f05",  # syscall
    "31ff",  # xor edi,edi
    "b8e7000000",  # mov eax,0xe7  ; exit_group
    "0f05",  # syscall
    # gone:
    "bf7f000000",  # mov edi,0x7f
    "b8e7000000",  # mov eax,0xe7  ; exit_group
    "0f05",  # syscall
    # child:
    "b870000000",  # mov eax,0x70  ; setsid
    "0f05",  # syscall
)

X86_TERMINAL = (
    "31ff",  # xor edi,edi
    "be0e540000",  # mov esi,0x540e
    "31d2",  # xor edx,edx
    "b810000000",  # mov eax,0x10  ; ioctl TIOCSCTTY
    "0f05",  # syscall
)

X86_GATE = (
    "50",  # push rax
    "bf03000000",  # mov edi,0x3
    "4889e6",  # mov rsi,rsp
    "ba01000000",  # mov edx,0x1
    "31c0",  # xor eax,eax  ; read
    "0f05",  # syscall
    "59",  # pop rcx
    "83f801",  # cmp eax,0x1
    "7505",  # jne left
    "80f947",  # cmp cl,0x47
    "740c",  # je on
    # left:
    "bf7f000000",  # mov edi,0x7f
    "b8e7000000",  # mov eax,0xe7  ; exit_group
    "0f05",  # syscall
    # on:
)

ARM_EXEC = (
    "600080d2",  # mov x0, 0x3
    "410080d2",  # mov x1, 0x2
    "220080d2",  # mov x2, 0x1
    "280380d2",  # mov x8, 0x19  ; fcntl F_SETFD
    "010000d4",  # svc #0x0
    "c001f837",  # tbnz w0, #31, gone
    "e30340f9",  # ldr x3, [sp]
    "e00740f9",  # ldr x0, [sp, #8]
    "e1430091",  # add x1, sp, 0x10
    "220c038b",  # add x2, x1, x3, lsl #3
    "a81b80d2",  # mov x8, 0xdd  ; execve
    "010000d4",  # svc #0x0
    "e003004b",  # neg w0, w0
    "e00f1ff8",  # str x0, [sp, #-16]!
    "600080d2",  # mov x0, 0x3
    "e1030091",  # mov x1, sp
    "820080d2",  # mov x2, 0x4
    "080880d2",  # mov x8, 0x40  ; write
    "010000d4",  # svc #0x0
    # gone:
    "e00f80d2",  # mov x0, 0x7f
    "c80b80d2",  # mov x8, 0x5e  ; exit_group
    "010000d4",  # svc #0x0
)

ARM_INIT = (
    "600080d2",  # mov x0, 0x3
    "410080d2",  # mov x1, 0x2
    "220080d2",  # mov x2, 0x1
    "280380d2",  # mov x8, 0x19  ; fcntl F_SETFD
    "010000d4",  # svc #0x0
    "000bf837",  # tbnz w0, #31, gone
    "f3030091",  # mov x19, sp
    "14008092",  # mov x20, 0xffffffffffffffff
    "ff8300d1",  # sub sp, sp, 0x20
    "f40b00f9",  # str x20, [sp, #16]
    "f5430091",  # add x21, sp, 0x10
    "400080d2",  # mov x0, 0x2
    "e10315aa",  # mov x1, x21
    "020080d2",  # mov x2, 0x0
    "030180d2",  # mov x3, 0x8
    "e81080d2",  # mov x8, 0x87  ; rt_sigprocmask
    "010000d4",  # svc #0x0
    "200280d2",  # mov x0, 0x11
    "010080d2",  # mov x1, 0x0
    "020080d2",  # mov x2, 0x0
    "030080d2",  # mov x3, 0x0
    "040080d2",  # mov x4, 0x0
    "881b80d2",  # mov x8, 0xdc  ; clone SIGCHLD
    "010000d4",  # svc #0x0
    "a0040034",  # cbz w0, child
    "f603002a",  # mov w22, w0
    "600080d2",  # mov x0, 0x3
    "280780d2",  # mov x8, 0x39  ; close
    "010000d4",  # svc #0x0
    # wait:
    "e00315aa",  # mov x0, x21
    "010080d2",  # mov x1, 0x0
    "020080d2",  # mov x2, 0x0
    "030180d2",  # mov x3, 0x8
    "281180d2",  # mov x8, 0x89  ; rt_sigtimedwait
    "010000d4",  # svc #0x0
    "40ffff37",  # tbnz w0, #31, wait
    "1f440071",  # cmp w0, 0x11
    "c0000054",  # b.eq reap
    "e103002a",  # mov w1, w0
    "e003162a",  # mov w0, w22
    "281080d2",  # mov x8, 0x81  ; kill
    "010000d4",  # svc #0x0
    "f3ffff17",  # b wait
    # reap:
    "00008092",  # mov x0, 0xffffffffffffffff
    "e1030091",  # mov x1, sp
    "220080d2",  # mov x2, 0x1
    "030080d2",  # mov x3, 0x0
    "882080d2",  # mov x8, 0x104  ; wait4
    "010000d4",  # svc #0x0
    "1f000071",  # cmp w0, 0x0
    "6dfdff54",  # b.le wait
    "1f00166b",  # cmp w0, w22
    "e1feff54",  # b.ne reap
    "e00340b9",  # ldr w0, [sp]
    "01180072",  # ands w1, w0, 0x7f
    "60000054",  # b.eq exited
    "20000211",  # add w0, w1, 0x80
    "02000014",  # b exit
    # exited:
    "003c0853",  # ubfx w0, w0, #8, #8
    # exit:
    "c80b80d2",  # mov x8, 0x5e  ; exit_group
    "010000d4",  # svc #0x0
    # child:
    "000080d2",  # mov x0, 0x0
    "010080d2",  # mov x1, 0x0
    "481380d2",  # mov x8, 0x9a  ; setpgid
    "010000d4",  # svc #0x0
    "881580d2",  # mov x8, 0xac  ; getpid
    "010000d4",  # svc #0x0
    "e00300b9",  # str w0, [sp]
    "000080d2",  # mov x0, 0x0
    "01828ad2",  # mov x1, 0x5410
    "e2030091",  # mov x2, sp
    "a80380d2",  # mov x8, 0x1d  ; ioctl TIOCSPGRP
    "010000d4",  # svc #0x0
    "bf0200f9",  # str xzr, [x21]
    "400080d2",  # mov x0, 0x2
    "e10315aa",  # mov x1, x21
    "020080d2",  # mov x2, 0x0
    "030180d2",  # mov x3, 0x8
    "e81080d2",  # mov x8, 0x87  ; rt_sigprocmask
    "010000d4",  # svc #0x0
    "630240f9",  # ldr x3, [x19]
    "600640f9",  # ldr x0, [x19, #8]
    "61420091",  # add x1, x19, 0x10
    "220c038b",  # add x2, x1, x3, lsl #3
    "a81b80d2",  # mov x8, 0xdd  ; execve
    "010000d4",  # svc #0x0
    "e003004b",  # neg w0, w0
    "e00300f9",  # str x0, [sp]
    "600080d2",  # mov x0, 0x3
    "e1030091",  # mov x1, sp
    "820080d2",  # mov x2, 0x4
    "080880d2",  # mov x8, 0x40  ; write
    "010000d4",  # svc #0x0
    # gone:
    "e00f80d2",  # mov x0, 0x7f
    "c80b80d2",  # mov x8, 0x5e  ; exit_group
    "010000d4",  # svc #0x0
)

ARM_ENTER = (
    "600080d2",  # mov x0, 0x3
    "210080d2",  # mov x1, 0x1
    "280380d2",  # mov x8, 0x19  ; fcntl F_GETFD
    "010000d4",  # svc #0x0
    "a002f837",  # tbnz w0, #31, gone
    "200290d2",  # mov x0, 0x8011
    "010080d2",  # mov x1, 0x0
    "020080d2",  # mov x2, 0x0
    "030080d2",  # mov x3, 0x0
    "040080d2",  # mov x4, 0x0
    "881b80d2",  # mov x8, 0xdc  ; clone CLONE_PARENT|SIGCHLD
    "010000d4",  # svc #0x0
    "00020034",  # cbz w0, child
    "020180d2",  # mov x2, 0x8
    "6000f836",  # tbz w0, #31, told
    "e003004b",  # neg w0, w0
    "820080d2",  # mov x2, 0x4
    # told:
    "e00f1ff8",  # str x0, [sp, #-16]!
    "600080d2",  # mov x0, 0x3
    "e1030091",  # mov x1, sp
    "080880d2",  # mov x8, 0x40  ; write
    "010000d4",  # svc #0x0
    "000080d2",  # mov x0, 0x0
    "c80b80d2",  # mov x8, 0x5e  ; exit_group
    "010000d4",  # svc #0x0
    # gone:
    "e00f80d2",  # mov x0, 0x7f
    "c80b80d2",  # mov x8, 0x5e  ; exit_group
    "010000d4",  # svc #0x0
    # child:
    "a81380d2",  # mov x8, 0x9d  ; setsid
    "010000d4",  # svc #0x0
)

ARM_TERMINAL = (
    "000080d2",  # mov x0, 0x0
    "c1818ad2",  # mov x1, 0x540e
    "020080d2",  # mov x2, 0x0
    "a80380d2",  # mov x8, 0x1d  ; ioctl TIOCSCTTY
    "010000d4",  # svc #0x0
)

ARM_GATE = (
    "ff4300d1",  # sub sp, sp, 0x10
    "600080d2",  # mov x0, 0x3
    "e1030091",  # mov x1, sp
    "220080d2",  # mov x2, 0x1
    "e80780d2",  # mov x8, 0x3f  ; read
    "010000d4",  # svc #0x0
    "e1034039",  # ldrb w1, [sp]
    "ff430091",  # add sp, sp, 0x10
    "1f040071",  # cmp w0, 0x1
    "61000054",  # b.ne left
    "3f1c0171",  # cmp w1, 0x47
    "80000054",  # b.eq on
    # left:
    "e00f80d2",  # mov x0, 0x7f
    "c80b80d2",  # mov x8, 0x5e  ; exit_group
    "010000d4",  # svc #0x0
    # on:
)

PARTS = {
    "x86_64": {"exec": X86_EXEC, "init": X86_INIT, "enter": X86_ENTER, "terminal": X86_TERMINAL, "gate": X86_GATE},
    "aarch64": {"exec": ARM_EXEC, "init": ARM_INIT, "enter": ARM_ENTER, "terminal": ARM_TERMINAL, "gate": ARM_GATE},
}
