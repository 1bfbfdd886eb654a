/* Whether the key "bayplan-attack" of whoever started us can be found. */
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(void) {
    long found = syscall(SYS_keyctl, 10, -3, "user", "bayplan-attack", 0);     /* KEYCTL_SEARCH the session keyring */
    if (found < 0) found = syscall(SYS_request_key, "user", "bayplan-attack", 0, 0);
    puts(found < 0 ? "absent" : "found");
    return 0;
}
