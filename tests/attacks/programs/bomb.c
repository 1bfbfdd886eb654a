/* bomb processes|memory: from the first instruction on, as many processes or as much memory as it gets. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int main(int argc, char **argv) {
    signal(SIGTERM, SIG_IGN);
    if (!strcmp(argv[1], "memory"))
        for (;;) memset(mmap(0, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 1, 1 << 20);
    for (;;)
        if (fork() == 0) for (;;) if (fork() < 0) pause();
}
