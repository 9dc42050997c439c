/* A ring buffer of bytes, of a fixed size. */
#ifndef RING_H
#define RING_H

#include <stddef.h>

struct ring {
    unsigned char *bytes;
    size_t size;
    size_t start; /* of the oldest byte */
    size_t used;
};

/* 0, or -1 when there is no memory. */
int ring_init(struct ring *ring, size_t size);
void ring_free(struct ring *ring);
/* How many bytes were taken: fewer than `count` when the ring is full. */
size_t ring_write(struct ring *ring, const void *data, size_t count);
/* How many bytes were given: fewer than `count` when the ring is empty. */
size_t ring_read(struct ring *ring, void *data, size_t count);

#endif
