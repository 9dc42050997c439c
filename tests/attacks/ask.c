/* Asks a name server for many names, from one socket, as fast as it can: ask FIRST COUNT SUFFIX [PAUSE_US]. Names are nNNNNN.SUFFIX.
 * Prints how many answers came. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int label(unsigned char *at, const char *from, int length) {
    at[0] = (unsigned char)length;
    memcpy(at + 1, from, (size_t)length);
    return length + 1;
}

int main(int argc, char **argv) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(53)};
    int first = atoi(argv[1]), count = atoi(argv[2]), answers = 0;
    int pause = argc > 4 ? atoi(argv[4]) : 0;
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    unsigned char message[512], in[2048];
    inet_pton(AF_INET, "10.0.2.3", &to.sin_addr);
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) != 0) return 1;
    for (int i = first; i < first + count; i++) {
        char name[256], *rest = name, *part;
        int n = 12;
        memset(message, 0, 12);
        message[0] = (unsigned char)(i >> 8), message[1] = (unsigned char)i;
        message[2] = 1, message[5] = 1;
        snprintf(name, sizeof name, "n%05d.%s", i, argv[3]);
        while ((part = strsep(&rest, ".")) != NULL) n += label(message + n, part, (int)strlen(part));
        memcpy(message + n, "\0\0\1\0\1", 5);
        send(fd, message, (size_t)n + 5, 0);
        while (recv(fd, in, sizeof in, MSG_DONTWAIT) > 0) answers++;
        if (pause) usleep((unsigned)pause);
    }
    struct timeval patience = {.tv_sec = 2};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    while (recv(fd, in, sizeof in, 0) > 0) answers++;
    printf("%d\n", answers);
    return 0;
}
