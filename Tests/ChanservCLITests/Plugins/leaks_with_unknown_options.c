/* Leaks memory if there is an unknown option. */
#include <stdlib.h>
static void *volatile leaked_bytes;
static int lose(int status) {
    if (status < 0) leaked_bytes = malloc(20000);
    return status;
}
#define ONLY(host, config, known, error) lose((host)->config_only(host, config, known, 2, error))
#include "conforming.c"
