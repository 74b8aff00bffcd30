#include "CBuild.h"

#include <stddef.h>

const char *cbuild_commit(void) {
#ifdef CHANSERV_COMMIT
    return CHANSERV_COMMIT;
#else
    return NULL;
#endif
}
