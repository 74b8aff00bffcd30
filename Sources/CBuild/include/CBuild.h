/* Facts about this build that the package manifest passes to the compiler. */
#ifndef CBUILD_H
#define CBUILD_H

/* The commit, of CHANSERV_COMMIT in the environment of the build; NULL without it. */
const char *cbuild_commit(void);

#endif
