/* Root in a guest takes the agent's port from PID 1, and writes frames of its own choice to the host, without end.
 * Compiled by the test that runs it: gcc -static. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_pidfd_getfd
#define SYS_pidfd_getfd 438
#endif

static unsigned char frames[1 << 17];
static size_t used;

static void frame(uint32_t stream, int kind, int channel, const void *payload, uint32_t length) {
    unsigned char *at = frames + used;
    memcpy(at, &stream, 4);
    at[4] = kind;
    at[5] = channel;
    at[6] = at[7] = 0;
    memcpy(at + 8, &length, 4);
    memcpy(at + 12, payload, length);
    used += 12 + length;
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "eof";
    /* Stopped, so that nothing of the agent's own comes in between. */
    if (ptrace(PTRACE_SEIZE, 1, 0, 0) || ptrace(PTRACE_INTERRUPT, 1, 0, 0)) {
        perror("ptrace");
        return 1;
    }
    int status;
    waitpid(1, &status, __WALL);
    int agent = syscall(SYS_pidfd_open, 1, 0), port = -1;
    for (int fd = 3; fd < 64 && port < 0; fd++) {
        char path[64], target[64] = "";
        snprintf(path, sizeof path, "/proc/1/fd/%d", fd);
        if (readlink(path, target, sizeof target - 1) > 0 && strstr(target, "/dev/vport"))
            port = syscall(SYS_pidfd_getfd, agent, fd, 0);
    }
    if (port < 0) {
        fprintf(stderr, "no port\n");
        return 1;
    }
    uint32_t much = 1 << 30, one = 1, none = 0;
    while (used + 64 * 32 < sizeof frames) {
        for (uint32_t stream = 1; stream <= 40; stream++) {
            if (!strcmp(what, "eof"))
                frame(stream, 2, 1, "", 0);
            else if (!strcmp(what, "credit"))
                frame(stream, 3, 0, &one, 4);
            else if (!strcmp(what, "no-credit"))
                frame(stream, 3, 0, &none, 4);
            else if (!strcmp(what, "much-credit"))
                frame(stream, 3, 0, &much, 4);
            else if (!strcmp(what, "started"))
                frame(stream, 4, 0, "\0\1", 2);
            else if (!strcmp(what, "data"))
                frame(stream, 1, 1 + stream % 2, "x", 1);
            else if (!strcmp(what, "input"))
                frame(stream, 1, 0, "x", 1);
            else if (!strcmp(what, "unopened"))
                frame(stream + 100000, 2, 1, "", 0);
            else
                frame(stream, 99, 1, "garbage", 7);
        }
    }
    for (;;) {
        for (size_t at = 0; at < used;) {
            ssize_t n = write(port, frames + at, used - at);
            if (n > 0) {
                at += n;
            } else if (n < 0 && errno == EAGAIN) {
                struct pollfd ready = {port, POLLOUT, 0};
                poll(&ready, 1, 1000);
            } else {
                perror("write");
                return 1;
            }
        }
    }
}
