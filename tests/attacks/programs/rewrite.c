/* Started by loader.c with a descriptor 9 of what it was: reopens it for writing as soon as nobody executes that file any more. */
#include <fcntl.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

int main(void) {
    time_t end = time(0) + 5;
    while (time(0) < end) {
        int fd = open("/proc/self/fd/9", O_WRONLY);
        if (fd < 0) continue;
        return write(fd, "OVERWRITTEN", 11) != 11;
    }
    return 1;
}
