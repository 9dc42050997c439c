/* Root in a guest tells QEMU without end that the kernel has panicked and goes on in another kernel.
 * Compiled by the test that runs it: gcc -static. */
#include <stdio.h>
#include <sys/io.h>

int main(void) {
    if (iopl(3)) {
        perror("iopl");
        return 9;
    }
    puts("telling");
    fflush(stdout);
    for (;;)
        outb(2, 0x505);
}
