/* Writes to a lent frame before its release. */
#include <stdbool.h>
static _Thread_local bool is_released;
#define ON_LEND(lent) is_released = false;
#define ON_RELEASE(lent) is_released = true;
#define ON_LENT(lent, status) if ((status) == CHANSERV_READY && !is_released) (lent)->text[0] = '!';
#include "conforming.c"
