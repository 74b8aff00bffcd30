/*
 * Memory of frames that are lent to the host: blocks that are filled once and used again when they are released.
 */
#ifndef LOAD_POOL_H
#define LOAD_POOL_H

#include "content.h"

#include <stddef.h>

struct pool;

/* Memory of one frame; `bytes` has a head from the last time, and behind it what all frames of the kind have. */
struct block {
    struct block *next; /* while it is free */
    struct pool *pool;
    enum content_kind kind;
    size_t size;
    unsigned char bytes[];
};

/* NULL where there is no memory. `content` outlives the pool. */
struct pool *pool_new(const struct content *content);
/* All blocks must have been given back. */
void pool_free(struct pool *pool);

/* NULL where there is no memory. */
struct block *pool_take(struct pool *pool, enum content_kind kind, size_t size);
/* From any thread; `block` is a struct block: what the host calls when it has sent the frame. */
void pool_give_back(void *block);

#endif
