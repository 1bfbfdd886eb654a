/* What a process in a container sees, one line for each thing: FIELD <tab> NAME <tab> VALUE.

   probe END [path:PATH | file:PATH]...   tell all, say "ready", wait for a line or the end of standard input, then end
   probe hook NAME FILE                   as a hook: add to FILE what it was told and where it runs

   END is an exit status, or -N for the signal N. A path is looked at, a file is read. */

#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

extern char **environ;
static FILE *out;

static void tell(const char *field, const char *name, const char *value) { fprintf(out, "%s\t%s\t%s\n", field, name, value); }

static void number(const char *field, const char *name, long long value) { fprintf(out, "%s\t%s\t%lld\n", field, name, value); }

static void content(const char *field, const char *path) {
    char buffer[256];
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    ssize_t size = fd < 0 ? -1 : read(fd, buffer, sizeof buffer - 1);
    if (size < 0) {
        fprintf(out, "%s\t%s\terror %s\n", field, path, strerrorname_np(errno));
    } else {
        buffer[size] = 0;
        for (char *c = buffer; *c; c++)
            if (*c == '\n' || *c == '\t') *c = c[1] ? ' ' : 0;
        tell(field, path, buffer);
    }
    if (fd >= 0) close(fd);
}

static void lines(const char *field, const char *path) {
    FILE *file = fopen(path, "re");
    char line[8192], name[16];
    for (int i = 0; file && fgets(line, sizeof line, file); i++) {
        line[strcspn(line, "\n")] = 0;
        snprintf(name, sizeof name, "%d", i);
        tell(field, name, line);
    }
    if (file) fclose(file);
}

static void identity(void) {
    uid_t u[3];
    gid_t g[3], groups[64];
    char list[1024] = "";
    int count = getgroups(64, groups);
    mode_t mask = umask(0);
    umask(mask);
    getresuid(u, u + 1, u + 2);
    getresgid(g, g + 1, g + 2);
    fprintf(out, "identity\tuid\t%u %u %u\nidentity\tgid\t%u %u %u\n", u[0], u[1], u[2], g[0], g[1], g[2]);
    for (int i = 0; i < count; i++) sprintf(list + strlen(list), "%u ", groups[i]);
    tell("identity", "groups", list);
    number("identity", "umask", mask);
}

static void privileges(void) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2] = {0};
    unsigned long long bounding = 0, ambient = 0;
    syscall(SYS_capget, &header, data);
    for (int i = 0; i < 64; i++) {
        if (prctl(PR_CAPBSET_READ, i, 0, 0, 0) == 1) bounding |= 1ULL << i;
        if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, i, 0, 0) == 1) ambient |= 1ULL << i;
    }
    fprintf(out, "capabilities\teffective\t%08x%08x\n", data[1].effective, data[0].effective);
    fprintf(out, "capabilities\tpermitted\t%08x%08x\n", data[1].permitted, data[0].permitted);
    fprintf(out, "capabilities\tinheritable\t%08x%08x\n", data[1].inheritable, data[0].inheritable);
    fprintf(out, "capabilities\tbounding\t%016llx\ncapabilities\tambient\t%016llx\n", bounding, ambient);
    number("process", "no_new_privs", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
    number("process", "securebits", prctl(PR_GET_SECUREBITS, 0, 0, 0, 0));
    number("process", "dumpable", prctl(PR_GET_DUMPABLE, 0, 0, 0, 0));
    number("process", "keepcaps", prctl(PR_GET_KEEPCAPS, 0, 0, 0, 0));
    number("process", "parent death signal", prctl(PR_GET_PDEATHSIG, &header.pid, 0, 0, 0) ? -1 : header.pid);
}

static void limits(void) {
    for (int i = 0; i < RLIM_NLIMITS; i++) {
        struct rlimit limit;
        char name[16];
        getrlimit(i, &limit);
        snprintf(name, sizeof name, "%d", i);
        fprintf(out, "rlimits\t%s\t%lld %lld\n", name, (long long)limit.rlim_cur, (long long)limit.rlim_max);
    }
}

static void scheduling(void) {
    cpu_set_t set;
    struct sched_param param;
    number("scheduling", "policy", sched_getscheduler(0));
    sched_getparam(0, &param);
    number("scheduling", "priority", param.sched_priority);
    number("scheduling", "nice", getpriority(PRIO_PROCESS, 0));
    number("scheduling", "ioprio", syscall(SYS_ioprio_get, 1, 0));
    number("scheduling", "cpus", sched_getaffinity(0, sizeof set, &set) ? -1 : CPU_COUNT(&set));
}

static void signals(void) {
    sigset_t mask;
    unsigned long long ignored = 0, blocked = 0;
    sigprocmask(SIG_BLOCK, NULL, &mask);
    for (int i = 1; i < 65; i++) {
        struct sigaction action;
        if (sigismember(&mask, i) == 1) blocked |= 1ULL << (i - 1);
        if (!sigaction(i, NULL, &action) && action.sa_handler == SIG_IGN) ignored |= 1ULL << (i - 1);
    }
    fprintf(out, "signals\tignored\t%llx\nsignals\tblocked\t%llx\n", ignored, blocked);
}

static void session(void) {
    struct winsize size = {0};
    struct utsname host;
    char cwd[4096];
    int tty = open("/dev/tty", O_RDWR | O_CLOEXEC);
    uname(&host);
    tell("host", "name", host.nodename);
    tell("host", "domain", host.domainname);
    tell("process", "machine", host.machine);
    number("process", "personality", personality(0xffffffff));
    tell("process", "cwd", getcwd(cwd, sizeof cwd) ? cwd : strerrorname_np(errno));
    number("process", "pid", getpid() == 1 ? 1 : 0);
    number("process", "leads its session", getsid(0) == getpid());
    number("process", "leads its group", getpgrp() == getpid());
    number("terminal", "input", isatty(0));
    number("terminal", "controlling", tty >= 0);
    if (!ioctl(0, TIOCGWINSZ, &size)) fprintf(out, "terminal\tsize\t%u %u\n", size.ws_row, size.ws_col);
    if (tty >= 0) close(tty);
    content("process", "/proc/self/oom_score_adj");
}

static void look(const char *field, const char *path) {
    struct stat status;
    struct statvfs system;
    char link[4096];
    if (lstat(path, &status)) {
        tell(field, path, strerrorname_np(errno));
        return;
    }
    fprintf(out, "%s\t%s\t%o %u:%u %u,%u", field, path, status.st_mode, status.st_uid, status.st_gid, major(status.st_rdev), minor(status.st_rdev));
    if (S_ISLNK(status.st_mode)) {
        ssize_t size = readlink(path, link, sizeof link - 1);
        link[size < 0 ? 0 : size] = 0;
        fprintf(out, " -> %s", link);
    } else {
        fprintf(out, " %s", statvfs(path, &system) ? "?" : system.f_flag & ST_RDONLY ? "ro" : "rw");
        fprintf(out, " read:%s", access(path, R_OK) ? strerrorname_np(errno) : "yes");
        fprintf(out, " write:%s", access(path, W_OK) ? strerrorname_np(errno) : "yes");
        if (S_ISCHR(status.st_mode) || S_ISBLK(status.st_mode)) {
            int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
            fprintf(out, " open:%s", fd < 0 ? strerrorname_np(errno) : "yes");
            if (fd >= 0) close(fd);
        } else if (S_ISREG(status.st_mode)) {
            fprintf(out, " size:%lld", (long long)status.st_size);
        } else if (S_ISDIR(status.st_mode)) {
            DIR *directory = opendir(path);
            int count = 0;
            while (directory && readdir(directory)) count++;
            if (directory) closedir(directory);
            fprintf(out, " entries:%s", !directory ? "?" : count > 2 ? "some" : "none");
        }
    }
    fputc('\n', out);
}

static void devices(void) {
    DIR *directory = opendir("/dev");
    struct dirent *entry;
    char path[512];
    while (directory && (entry = readdir(directory))) {
        if (entry->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "/dev/%s", entry->d_name);
        look("devices", path);
    }
    if (directory) closedir(directory);
}

static void descriptors(void) {
    char path[64], target[512], name[16];
    for (int fd = 0; fd < 1024; fd++) {
        if (fcntl(fd, F_GETFD) < 0) continue;
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        ssize_t size = readlink(path, target, sizeof target - 1);
        target[size < 0 ? 0 : size] = 0;
        snprintf(name, sizeof name, "%d", fd);
        tell("descriptors", name, target);
    }
}

static void namespaces(const char *field) {
    static const char *names[] = {"cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"};
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
        char path[64], target[128];
        snprintf(path, sizeof path, "/proc/self/ns/%s", names[i]);
        ssize_t size = readlink(path, target, sizeof target - 1);
        target[size < 0 ? 0 : size] = 0;
        tell(field, names[i], target);
    }
}

static void clocks(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    number("clocks", "monotonic", now.tv_sec);
    clock_gettime(CLOCK_BOOTTIME, &now);
    number("clocks", "boottime", now.tv_sec);
}

/* Calls that change nothing whatever they answer: their arguments are wrong. */
static void calls(void) {
    static const struct { const char *name; long number, a, b, c; } calls[] = {
        {"getppid", SYS_getppid, 0, 0, 0},        {"mkdir", SYS_mkdirat, -1, 0, 0},       {"chmod", SYS_fchmodat, -1, 0, 0},
        {"mount", SYS_mount, 0, 0, 0},            {"unshare", SYS_unshare, 0, 0, 0},      {"unshare user", SYS_unshare, 1, 0, 0},
        {"socket inet", SYS_socket, 2, 1, 0},     {"socket alg", SYS_socket, 38, 5, 0},   {"socket vsock", SYS_socket, 40, 1, 0},
        {"ptrace", SYS_ptrace, -1, 0, 0},         {"keyctl", SYS_keyctl, -1, 0, 0},       {"bpf", SYS_bpf, -1, 0, 0},
        {"clone3", SYS_clone3, 0, 0, 0},          {"add_key", SYS_add_key, 0, 0, 0},      {"userfaultfd", SYS_userfaultfd, -1, 0, 0},
        {"perf_event_open", SYS_perf_event_open, 0, 0, 0}, {"swapoff", SYS_swapoff, 0, 0, 0}, {"sethostname", SYS_sethostname, 0, -1, 0},
        {"setns", SYS_setns, -1, 0, 0},           {"chroot", SYS_chroot, 0, 0, 0},        {"kcmp", SYS_kcmp, -1, -1, -1},
        {"times", SYS_times, 0, 0, 0},            {"sched_yield", SYS_sched_yield, 0, 0, 0}, {"dup big", SYS_dup, 1000000, 0, 0},
        {"prctl", SYS_prctl, 1000, 0, 0},         {"none", 2000, 0, 0, 0},
    };
    for (unsigned i = 0; i < sizeof calls / sizeof *calls; i++) {
        long result = syscall(calls[i].number, calls[i].a, calls[i].b, calls[i].c, 0, 0);
        tell("calls", calls[i].name, result < 0 ? strerrorname_np(errno) ?: "an unknown error" : "done");
        if (result > 2 && !strncmp(calls[i].name, "socket", 6)) close(result);
    }
}

static int hook(const char *name, const char *path) {
    char state[8192];
    size_t size = fread(state, 1, sizeof state - 1, stdin);
    state[size] = 0;
    for (char *c = state; *c; c++)
        if (*c == '\n' || *c == '\t') *c = ' ';
    if (!(out = fopen(path, "ae"))) return 1;
    char field[64], cwd[4096];
    snprintf(field, sizeof field, "hook %s", name);
    tell(field, "state", state);
    tell(field, "cwd", getcwd(cwd, sizeof cwd) ? cwd : "?");
    for (char **entry = environ; *entry; entry++) tell(field, "env", *entry);
    namespaces(field);
    return fclose(out) != 0;
}

int main(int count, char **arguments) {
    if (count > 3 && !strcmp(arguments[1], "hook")) return hook(arguments[2], arguments[3]);
    int end = count > 1 ? atoi(arguments[1]) : 0;
    char *told;
    size_t size;
    out = open_memstream(&told, &size);
    descriptors();
    for (int i = 0; i < count; i++) tell("arguments", (char[]){(char)('a' + i / 26), (char)('a' + i % 26), 0}, arguments[i]);
    for (char **entry = environ; *entry; entry++) tell("environment", *entry, "");
    identity();
    privileges();
    limits();
    scheduling();
    signals();
    session();
    namespaces("namespaces");
    clocks();
    calls();
    devices();
    lines("mounts", "/proc/self/mountinfo");
    lines("uid_map", "/proc/self/uid_map");
    for (int i = 2; i < count; i++) {
        if (!strncmp(arguments[i], "path:", 5)) look("paths", arguments[i] + 5);
        if (!strncmp(arguments[i], "file:", 5)) content("files", arguments[i] + 5);
    }
    fclose(out);
    for (size_t done = 0; done < size;) {
        ssize_t written = write(1, told + done, size - done);
        if (written <= 0) return 98;
        done += written;
    }
    if (write(1, "ready\n", 6) < 0) return 99;
    char byte;
    if (read(0, &byte, 1) < 0) return 97;
    if (end >= 0) return end;
    signal(-end, SIG_DFL);
    kill(getpid(), -end);
    abort(); /* process 1 of a namespace is not killed by its own signal */
}
