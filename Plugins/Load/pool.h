/* Memory of frames that are lent to the host: blocks that are filled once and reused when they are released. */
#ifndef LOAD_POOL_H
#define LOAD_POOL_H

#include "content.h"

#include <stddef.h>

struct pool;

/*
 * Memory of one frame. `bytes` has the head of its last use, followed by the bytes that all frames of the kind share.
 */
struct block {
    struct block *next; /* while it is free */
    struct pool *pool;
    enum content_kind kind;
    size_t size;
    unsigned char bytes[];
};

/* Returns NULL if there is no memory. `content` must outlive the pool. */
struct pool *pool_new(const struct content *content);
/* All blocks must have been returned before. */
void pool_free(struct pool *pool);

/* Takes a block. Returns NULL if there is no memory. */
struct block *pool_take(struct pool *pool, enum content_kind kind, size_t size);
/*
 * Returns a block, a struct block, to the pool. The host calls it when it has sent the frame. Any thread may call it.
 */
void pool_give_back(void *block);

#endif
