#include "pool.h"

#include <pthread.h>
#include <stdlib.h>

/* Maximum bytes of free blocks, equal to the host's limit of lent bytes for one instance. */
#define FREE_MAX ((size_t)64 << 20)
/* Maximum free blocks that are searched for a fitting one, so that the lock is held only briefly. */
#define SEARCH_MAX 16

struct pool {
    const struct content *content;
    pthread_mutex_t lock;
    struct block *first; /* free blocks, the last returned one first */
    size_t free_bytes;
};

struct pool *pool_new(const struct content *content) {
    struct pool *pool = calloc(1, sizeof *pool);
    if (pool != NULL) {
        pool->content = content;
        pthread_mutex_init(&pool->lock, NULL);
    }
    return pool;
}

void pool_free(struct pool *pool) {
    while (pool->first != NULL) {
        struct block *block = pool->first;
        pool->first = block->next;
        free(block);
    }
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}

/* Unlinks the block *link. Called with the lock held. */
static struct block *unlink_block(struct pool *pool, struct block **link) {
    struct block *block = *link;
    *link = block->next;
    pool->free_bytes -= block->size;
    return block;
}

struct block *pool_take(struct pool *pool, enum content_kind kind, size_t size) {
    struct block *found = NULL, *evicted = NULL;
    pthread_mutex_lock(&pool->lock);
    struct block **link = &pool->first;
    for (int i = 0; i < SEARCH_MAX && *link != NULL; i++) {
        if ((*link)->kind == kind && (*link)->size == size) {
            found = unlink_block(pool, link);
            break;
        }
        link = &(*link)->next;
    }
    if (found == NULL && pool->first != NULL) {
        /* A block of another request. Such blocks are freed one by one. */
        evicted = unlink_block(pool, &pool->first);
    }
    pthread_mutex_unlock(&pool->lock);
    free(evicted);
    if (found != NULL) {
        return found;
    }
    struct block *block = malloc(sizeof *block + size);
    if (block != NULL) {
        block->pool = pool;
        block->kind = kind;
        block->size = size;
        content_write_lent(pool->content, kind, 0, 0, block->bytes, size);
    }
    return block;
}

void pool_give_back(void *pointer) {
    struct block *block = pointer;
    struct pool *pool = block->pool;
    pthread_mutex_lock(&pool->lock);
    int is_kept = pool->free_bytes + block->size <= FREE_MAX;
    if (is_kept) {
        block->next = pool->first;
        pool->first = block;
        pool->free_bytes += block->size;
    }
    pthread_mutex_unlock(&pool->lock);
    if (!is_kept) {
        free(block);
    }
}
