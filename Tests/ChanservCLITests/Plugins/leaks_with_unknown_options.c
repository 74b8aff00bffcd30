/* An unknown option is noticed when the instance is there, and the instance is lost. */
#include <stdlib.h>
static void *volatile leaked_bytes;
static int lose(int status) {
    if (status < 0) leaked_bytes = malloc(20000);
    return status;
}
#define ONLY(host, config, known, error) lose((host)->config_only(host, config, known, 2, error))
#include "conforming.c"
