#include "ring.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                          \
    do {                                                                          \
        if (!(condition)) {                                                       \
            fprintf(stderr, "%s:%d: error: %s\n", __FILE__, __LINE__, #condition); \
            exit(1);                                                              \
        }                                                                         \
    } while (0)

static void wraps_around(void)
{
    struct ring ring;
    char out[8];
    CHECK(ring_init(&ring, 5) == 0);
    CHECK(ring_write(&ring, "abcd", 4) == 4);
    CHECK(ring_read(&ring, out, 3) == 3 && memcmp(out, "abc", 3) == 0);
    CHECK(ring_write(&ring, "efgh", 4) == 4);
    CHECK(ring_write(&ring, "i", 1) == 0);
    CHECK(ring_read(&ring, out, 8) == 5 && memcmp(out, "defgh", 5) == 0);
    CHECK(ring_read(&ring, out, 1) == 0);
    ring_free(&ring);
}

static void holds_nothing_when_it_has_no_size(void)
{
    struct ring ring;
    CHECK(ring_init(&ring, 0) == 0);
    CHECK(ring_write(&ring, "a", 1) == 0);
    ring_free(&ring);
}

/* Against a plain array, with a generator that is the same on every machine. */
static void gives_what_it_was_given(void)
{
    enum { SIZE = 37, TOTAL = 20000 };
    static unsigned char expected[TOTAL + SIZE], piece[2 * SIZE];
    size_t written = 0, read = 0;
    unsigned random = 1;
    struct ring ring;
    CHECK(ring_init(&ring, SIZE) == 0);
    while (written < TOTAL) {
        random = random * 1103515245u + 12345u;
        size_t count = (random >> 16) % SIZE;
        for (size_t i = 0; i < count; i++)
            piece[i] = (unsigned char)(written + i);
        size_t taken = ring_write(&ring, piece, count);
        memcpy(expected + written, piece, taken);
        written += taken;
        size_t given = ring_read(&ring, piece, (random >> 8) % SIZE);
        CHECK(memcmp(piece, expected + read, given) == 0);
        read += given;
    }
    ring_free(&ring);
}

int main(void)
{
    wraps_around();
    holds_nothing_when_it_has_no_size();
    gives_what_it_was_given();
    puts("3 tests passed");
    return 0;
}
