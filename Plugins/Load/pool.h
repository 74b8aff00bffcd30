/*
 * A pool of memory blocks for frames that are lent to the host. A block is filled once and reused after its release.
 */
#ifndef LOAD_POOL_H
#define LOAD_POOL_H

#include "content.h"

#include <stddef.h>

struct pool;

/* The memory of one frame. `bytes` has the head of an earlier frame; the rest is equal in all frames of the kind. */
struct block {
    struct block *next; /* the next free block; only while this block is free */
    struct pool *pool;
    enum content_kind kind;
    size_t size;
    unsigned char bytes[];
};

/* Makes a pool. Returns NULL if there is no memory. `content` must outlive the pool. */
struct pool *pool_new(const struct content *content);
/* Frees the pool and its free blocks. All blocks must have been given back. */
void pool_free(struct pool *pool);

/* Returns a free or new block; NULL if there is no memory. The caller must write the head. */
struct block *pool_take(struct pool *pool, enum content_kind kind, size_t size);
/*
 * Returns a block (a struct block) to the pool. This is the release function of lent frames: the host calls it after it
 * has sent the frame, from any thread.
 */
void pool_give_back(void *block);

#endif
