/* swap A B: exchanges two names as fast as it can, until it is killed. */
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int argc, char **argv) {
    for (;;) syscall(SYS_renameat2, -100, argv[1], -100, argv[2], 2);
}
