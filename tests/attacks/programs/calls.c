/* Calls that broke others, one line each: a name, and 0 or the error number. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/perf_event.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define TRY(name, ...) printf("%s %d\n", name, syscall(__VA_ARGS__) < 0 ? errno : 0)

int main(void) {
    static struct perf_event_attr event;
    static char page[4096];
    struct { unsigned bytes; int type; unsigned char handle[64]; } handle = {8, 1, {2}};
    event.type = PERF_TYPE_SOFTWARE, event.size = sizeof event, event.config = PERF_COUNT_SW_CPU_CLOCK;
    TRY("af_alg", SYS_socket, 38, SOCK_SEQPACKET, 0);
    TRY("af_vsock", SYS_socket, 40, SOCK_STREAM, 0);
    TRY("keyctl", SYS_keyctl, 0, -3, 1);
    TRY("add_key", SYS_add_key, "user", "x", "y", 1, -3);
    TRY("request_key", SYS_request_key, "user", "x", 0, 0);
    TRY("open_by_handle_at", SYS_open_by_handle_at, -100, &handle, 0);
    TRY("kexec_load", SYS_kexec_load, 0, 0, 0, 0);
    TRY("kexec_file_load", SYS_kexec_file_load, -1, -1, 0, 0, 0);
    TRY("init_module", SYS_init_module, page, 64, "");
    TRY("finit_module", SYS_finit_module, 0, "", 0);
    TRY("delete_module", SYS_delete_module, "x", 0);
    TRY("bpf", SYS_bpf, 0, page, 72);
    TRY("perf_event_open", SYS_perf_event_open, &event, 0, -1, -1, 0);
    TRY("userfaultfd", SYS_userfaultfd, 0);
    TRY("io_uring_setup", 425, 8, page);
    TRY("io_uring_enter", 426, 0, 0, 0, 0, 0, 0);
    TRY("io_uring_register", 427, 0, 0, 0, 0);
    TRY("unshare_user", SYS_unshare, CLONE_NEWUSER);
    TRY("unshare_mount", SYS_unshare, CLONE_NEWNS);
    TRY("unshare_network", SYS_unshare, CLONE_NEWNET);
    TRY("unshare_pid", SYS_unshare, CLONE_NEWPID);
    TRY("unshare_cgroup", SYS_unshare, 0x02000000);
    TRY("unshare_time", SYS_unshare, 0x80);
    TRY("setns", SYS_setns, 0, 0);
    TRY("mount", SYS_mount, "x", "/tmp", "tmpfs", 0, "");
    TRY("umount2", SYS_umount2, "/proc/kcore", 2);
    TRY("pivot_root", SYS_pivot_root, "/", "/tmp");
    TRY("fsopen", 430, "tmpfs", 0);
    TRY("open_tree", 428, -100, "/", 1);
    TRY("move_mount", 429, -100, "/", -100, "/tmp", 0);
    TRY("mount_setattr", 442, -100, "/", 0, page, 32);
    TRY("reboot", SYS_reboot, 0xfee1dead, 672274793, 0, 0);
    TRY("swapon", SYS_swapon, "/tmp/x", 0);
    TRY("syslog", SYS_syslog, 3, page, sizeof page);
    TRY("settimeofday", SYS_settimeofday, page, 0);
    TRY("clock_settime", SYS_clock_settime, 0, page);
    TRY("acct", SYS_acct, "/tmp/x");
    TRY("quotactl", SYS_quotactl, 0, 0, 0, 0);
    TRY("lookup_dcookie", 212, 0, page, sizeof page);
    TRY("iopl", SYS_iopl, 3);
    TRY("ioperm", SYS_ioperm, 0x70, 2, 1);
    TRY("personality", SYS_personality, 0x0040000); /* ADDR_NO_RANDOMIZE */
    TRY("move_pages", SYS_move_pages, 0, 0, 0, 0, 0, 0);
    TRY("process_vm_readv", SYS_process_vm_readv, 1, 0, 0, 0, 0, 0);
    TRY("kcmp", SYS_kcmp, 1, 1, 0, 0, 0);
    TRY("sethostname", SYS_sethostname, "x", 1);
    TRY("chroot_nothing", SYS_chroot, "/nothing");
    for (int flag = 0; flag < 7; flag++) {
        static const unsigned long flags[] = {0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000};
        long pid = syscall(SYS_clone, flags[flag] | SIGCHLD, 0, 0, 0, 0);
        if (pid == 0) _exit(0);
        printf("clone_%lx %d\n", flags[flag], pid < 0 ? errno : 0);
    }
    TRY("clone3", 435, page, 64);
    TRY("newer", 600, 0, 0);
    TRY("newest", 100000, 0, 0);
    TRY("x32", 0x40000000 | SYS_getpid, 0);
    TRY("x32_ptrace", 0x40000000 | 521, PTRACE_ATTACH, 1, 0, 0);
    TRY("plain_socket", SYS_socket, AF_INET, SOCK_STREAM, 0);
    TRY("ptrace_first", SYS_ptrace, PTRACE_ATTACH, 1, 0, 0);
    return 0;
}
