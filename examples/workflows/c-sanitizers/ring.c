#include "ring.h"

#include <stdlib.h>
#include <string.h>

static size_t min(size_t a, size_t b)
{
    return a < b ? a : b;
}

int ring_init(struct ring *ring, size_t size)
{
    *ring = (struct ring){.bytes = malloc(size ? size : 1), .size = size};
    return ring->bytes ? 0 : -1;
}

void ring_free(struct ring *ring)
{
    free(ring->bytes);
    *ring = (struct ring){0};
}

size_t ring_write(struct ring *ring, const void *data, size_t count)
{
    count = min(count, ring->size - ring->used);
    if (count == 0)
        return 0;
    size_t end = (ring->start + ring->used) % ring->size;
    size_t first = min(count, ring->size - end);
    memcpy(ring->bytes + end, data, first);
    memcpy(ring->bytes, (const unsigned char *)data + first, count - first);
    ring->used += count;
    return count;
}

size_t ring_read(struct ring *ring, void *data, size_t count)
{
    count = min(count, ring->used);
    if (count == 0)
        return 0;
    size_t first = min(count, ring->size - ring->start);
    memcpy(data, ring->bytes + ring->start, first);
    memcpy((unsigned char *)data + first, ring->bytes, count - first);
    ring->start = (ring->start + count) % ring->size;
    ring->used -= count;
    return count;
}
