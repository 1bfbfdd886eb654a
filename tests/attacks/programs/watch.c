/* A container's root that looks at /proc while others enter, until there is a file /stop. Keeps a descriptor of every foreign executable, and
   reopens it for writing as soon as that can be; tries the same with the descriptors and directories of every process. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int kept[64], count;

static void keep(const char *process) {
    char path[300], link[300];
    snprintf(path, sizeof path, "/proc/%s/exe", process);
    int fd = open(path, O_RDONLY);
    if (fd < 0) return;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd); /* what was opened: it may have become another program meanwhile */
    int length = readlink(path, link, sizeof link - 1);
    link[length < 0 ? 0 : length] = 0;
    if (strstr(link, "memfd:bayplan")) { /* the runtime's own program: anybody may read it, and nobody write */
        int w = open(path, O_WRONLY);
        if (w >= 0 && write(w, "OVERWRITTEN", 11) == 11) printf("overwritten\n");
        if (w >= 0) close(w);
    }
    if (strstr(link, "memfd:bayplan") || !strcmp(link, "/bin/busybox") || !strcmp(link, "/bin/watch") || count == 60) {
        close(fd);
        return;
    }
    printf("exe %s\n", link);
    kept[count++] = fd;
}

static void look(const char *process, const char *what) {
    char path[300], link[300];
    snprintf(path, sizeof path, "/proc/%s/%s", process, what);
    int length = readlink(path, link, sizeof link - 1);
    if (length <= 0 || !strncmp(link, "/", length)) return;
    link[length] = 0;
    printf("%s %s\n", what, link);
}

int main(int argc, char **argv) {
    setvbuf(stdout, 0, _IOLBF, 0);
    printf("watching\n");
    while (access("/stop", F_OK)) {
        DIR *directory = opendir("/proc");
        struct dirent *entry;
        while ((entry = readdir(directory))) {
            if (!atoi(entry->d_name)) continue;
            keep(entry->d_name);
            look(entry->d_name, "cwd");
            look(entry->d_name, "root");
        }
        closedir(directory);
        for (int i = 0; i < count; i++) {
            char path[64];
            snprintf(path, sizeof path, "/proc/self/fd/%d", kept[i]);
            int w = open(path, O_WRONLY);
            if (w < 0) continue;
            if (write(w, "OVERWRITTEN", 11) == 11) printf("overwritten\n");
            close(w);
            close(kept[i]);
            kept[i] = kept[--count];
        }
    }
    printf("end\n");
    return 0;
}
