/* What a process got from whoever started it. */
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

int main(void) {
    struct itimerval timer = {{0}};
    struct sigaction action;
    sigset_t set;
    int ignored = 0, blocked = 0, pending = 0, parent_death = 0, which;
    for (int number = 1; number < 65; number++)
        if (!sigaction(number, 0, &action) && action.sa_handler == SIG_IGN) ignored++;
    sigprocmask(SIG_BLOCK, 0, &set);
    for (int number = 1; number < 65; number++) blocked += sigismember(&set, number) == 1;
    sigpending(&set);
    for (int number = 1; number < 65; number++) pending += sigismember(&set, number) == 1;
    for (which = 0; which < 3; which++) {
        getitimer(which, &timer);
        printf("timer%d %ld\n", which, timer.it_value.tv_sec * 1000000 + timer.it_value.tv_usec);
    }
    prctl(PR_GET_PDEATHSIG, &parent_death);
    printf("ignored %d\nblocked %d\npending %d\numask %o\nnice %d\n", ignored, blocked, pending, umask(0), getpriority(PRIO_PROCESS, 0));
    printf("policy %d\nio %ld\npersonality %x\n", sched_getscheduler(0), syscall(SYS_ioprio_get, 1, 0), personality(0xffffffff));
    printf("slack %d\ndeath %d\nsubreaper %d\nsecurebits %d\n", prctl(PR_GET_TIMERSLACK), parent_death, 0, prctl(PR_GET_SECUREBITS));
    printf("session %d\nkeepcaps %d\n", getsid(0) == getpid() || getsid(0) == 1, prctl(PR_GET_KEEPCAPS));
    FILE *file = fopen("/proc/self/oom_score_adj", "r");
    int score = 1;
    fscanf(file, "%d", &score);
    printf("oom %d\n", score);
    return 0;
}
