/* hold ADDRESS PORT COUNT: opens so many connections one after the other and says nothing on them. Those that were opened
 * are counted in /root/held once all were tried; then it waits to be killed. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int argc, char **argv) {
    if (argc != 4)
        return 2;
    struct rlimit limit = {4096, 4096};
    setrlimit(RLIMIT_NOFILE, &limit);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[2]))};
    inet_pton(AF_INET, argv[1], &to.sin_addr);
    int opened = 0;
    for (int n = atoi(argv[3]); n > 0; n--) {
        int socket_ = socket(AF_INET, SOCK_STREAM, 0);
        if (socket_ < 0)
            return 1;
        if (connect(socket_, (struct sockaddr *)&to, sizeof to) == 0)
            opened++;
        else
            close(socket_);
    }
    FILE *held = fopen("/root/held.new", "w");
    fprintf(held, "%d\n", opened);
    fclose(held);
    rename("/root/held.new", "/root/held");
    for (;;)
        pause();
}
